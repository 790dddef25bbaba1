//! `docs/reliability.md` names tests that are there.

use std::{fs, path::Path};

#[test]
fn each_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let mut found = 0;
    for (file, test) in page.split('`').skip(1).step_by(2).filter_map(|it| it.split_once("::")) {
        let places = ["tests/tests", "persistent-runtime/src/shuttle_tests/scenarios"];
        let paths = places.map(|place| root.join(place).join(file).with_extension("rs"));
        let path = paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]);
        let code =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(code.contains(&format!("fn {test}()")), "{file} has no {test}");
        found += 1;
    }
    assert!(found > 40, "only {found} are named");
}
