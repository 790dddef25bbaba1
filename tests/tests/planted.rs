//! Tests that the planted bugs fit the code and the documentation.
//!
//! A test program of its own: a mutant of the code changes the context of a patch, and so would
//! always be caught here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the names of all planted bugs.
fn bugs() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("tests/planted")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".patch").map(str::to_owned)).collect()
}

#[test]
fn every_planted_bug_applies_to_the_code() {
    let bugs = bugs();
    assert!(bugs.len() > 20, "{bugs:?}");
    for bug in bugs {
        let patch = format!("tests/planted/{bug}.patch");
        let mut check = Command::new("git");
        let output = check.args(["apply", "--check", &patch]).current_dir(root()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "adapt {patch} to the code: {error}");
    }
}

#[test]
fn every_planted_bug_is_documented_with_its_layers() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let (_, section) = page.split_once("\n## Planted bugs\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<(&str, &str)> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).collect();
    let documented: BTreeSet<String> = rows.iter().map(|(bug, _)| (*bug).to_owned()).collect();
    assert_eq!(documented, bugs());
    for (bug, found_by) in rows {
        let patch = root().join(format!("tests/planted/{bug}.patch"));
        let text = fs::read_to_string(patch).unwrap();
        let first = text.lines().next().and_then(|line| line.strip_prefix("Found by: "));
        for layer in first.expect("the first line names the layers").split(' ') {
            let layer = if layer == "interleavings" { "shuttle_tests" } else { layer };
            assert!(found_by.contains(&format!("`{layer}`")), "{bug} is found by {layer}");
        }
    }
}
