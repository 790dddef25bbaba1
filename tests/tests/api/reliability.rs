//! Tests that `docs/reliability.md` names only tests that exist.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Returns the files below `folder` by file name.
fn files(folder: &Path) -> HashMap<String, PathBuf> {
    let mut files = HashMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), path);
        }
    }
    files
}

#[test]
fn each_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let mut files = files(&root.join("tests/tests"));
    files.extend(self::files(&root.join("persistent-runtime/src/shuttle_tests/scenarios")));
    let mut found = 0;
    // Commands contain spaces: they name whole layers.
    let names = page.split('`').skip(1).step_by(2).filter(|quoted| !quoted.contains(' '));
    for (file, test) in names.filter_map(|name| name.split_once("::")) {
        let path = files.get(file).unwrap_or_else(|| panic!("{file}.rs does not exist"));
        let code = fs::read_to_string(path).unwrap();
        assert!(code.contains(&format!("fn {test}()")), "{file} has no {test}");
        found += 1;
    }
    assert!(found > 40, "only {found} are named");
}
