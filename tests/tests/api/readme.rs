//! Tests that the README shows code that CI runs.

/// The program in the README is the example `counter`, whose output CI checks.
#[test]
fn the_readme_shows_the_counter_example() {
    let readme = include_str!("../../../README.md");
    let example = include_str!("../../../examples/counter.rs");
    let program = example.split_once("\n\n").unwrap().1;
    assert!(readme.contains(program), "copy examples/counter.rs into README.md");
}
