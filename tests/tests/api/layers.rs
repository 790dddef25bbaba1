//! The layers of the runtime crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers, lowest first. A module imports only modules of lower layers, and its own.
const LAYERS: [&[&str]; 9] = [
    &["support"],
    &["id", "payload", "stop_reason"],
    &["codec", "storage"],
    &["error"],
    &["call", "config", "observe"],
    &["engine"],
    &["api"],
    &["runtime"],
    &["testing"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Lists all Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Lists the modules that `source` names behind `crate::`, in imports and in other paths.
fn imports(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n");
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // A path of an exported macro, `$crate::…`, is resolved in the user's crate.
        if code[..at].ends_with('$') {
            continue;
        }
        let path = &code[at + "crate::".len()..];
        match path.strip_prefix('{') {
            Some(list) => modules.extend(first_segments(list)),
            None => modules.extend(first_segments(path).into_iter().take(1)),
        }
    }
    modules
}

/// Lists the first segment of each path of a `use` list, up to its closing brace.
fn first_segments(list: &str) -> Vec<String> {
    let (mut segments, mut segment, mut depth, mut is_first) = (Vec::new(), String::new(), 0, true);
    for character in list.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            _ if depth > 0 => {}
            character if is_first && (character.is_alphanumeric() || character == '_') => {
                segment.push(character);
            }
            _ if !segment.is_empty() => {
                segments.push(std::mem::take(&mut segment));
                is_first = false;
            }
            _ => {}
        }
    }
    segments.extend((!segment.is_empty()).then_some(segment));
    segments
}

/// A lower layer that imports a higher one makes both impossible to understand or test alone.
#[test]
fn no_module_imports_a_module_of_a_higher_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../persistent-runtime/src");
    let mut violations = Vec::new();
    for path in sources(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let module = name.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if ["lib", "private", "shuttle_tests"].contains(&module.as_str()) {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("`{module}` is in no layer"));
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            match layer(&import) {
                Some(other) if import == module || other < own => {}
                // Macros are exported at the root.
                None if ["forward_storage", "persistent_server"].contains(&import.as_str()) => {}
                _ => violations.push(format!("{name} imports {import}")),
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let source = "use crate::{\n    a::{x, y},\n    b,\n};\npub use crate::c::Z;\nfn f() { crate::d::g() }\n\
                  // use crate::e;\nmacro_rules! m { () => { $crate::f::g() } }";
    assert_eq!(imports(source), ["a", "b", "c", "d"]);
}
