//! The habits of this code, kept by a test.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const LINES_MAX: usize = 500;
const README_LINES_MAX: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder with that ending, by their path from the root.
fn files(folder: &str, ending: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == ending) {
                let name = path.strip_prefix(root()).unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn all_rust() -> BTreeMap<PathBuf, String> {
    ["src", "tests", "examples", "benches", "fuzz"]
        .into_iter()
        .flat_map(|folder| files(folder, "rs"))
        .collect()
}

/// The floors as ARCHITECTURE.md has them; the leaves have `None`.
fn floors() -> BTreeMap<String, Option<u32>> {
    let mut floors = BTreeMap::new();
    for line in read("ARCHITECTURE.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, floor, modules, _, _] = cells[..] else {
            continue;
        };
        let floor = match floor {
            "leaves" => None,
            _ => match floor.parse() {
                Ok(floor) => Some(floor),
                Err(_) => continue,
            },
        };
        for module in modules.split_whitespace() {
            floors.insert(module.trim_matches('`').to_owned(), floor);
        }
    }
    floors
}

/// The modules of this crate that a source names after `crate::`, also in braces.
fn imports(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let line_start = code[..at].rfind('\n').map_or(0, |end| end + 1);
        if code[line_start..at].contains("//") || code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => {
                found.insert(word(rest));
            }
            Some(list) => {
                let mut depth = 1;
                let mut start = true;
                for (index, char) in list.char_indices() {
                    match char {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                    if start && char.is_alphabetic() {
                        found.insert(word(&list[index..]));
                        start = false;
                    }
                    if depth == 1 && char == ',' {
                        start = true;
                    }
                }
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn files_import_only_from_their_floor_and_below() {
    let floors = floors();
    assert!(
        floors.len() > 15,
        "the table of floors is not read: {floors:?}"
    );
    let mut checked = 0;
    for (path, source) in files("src", "rs") {
        let module = path.iter().nth(1).unwrap().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        // Programs are crates of their own, and see what everybody sees.
        if ["lib", "fuzzing", "bin"].contains(&module) {
            continue;
        }
        let own = floors.get(module).unwrap_or_else(|| {
            panic!("{} is on no floor of ARCHITECTURE.md", path.display());
        });
        for import in imports(&source) {
            let Some(floor) = floors.get(&import) else {
                continue;
            };
            checked += 1;
            let allowed = match (own, floor) {
                (None, None) => import == module,
                (None, Some(floor)) => *floor <= 1,
                (Some(own), Some(floor)) => floor <= own,
                (Some(_), None) => false,
            };
            assert!(allowed, "{} imports from `{import}`", path.display());
        }
    }
    assert!(checked > 50, "imports are not read");
}

#[test]
fn stores_never_see_a_session_id() {
    for (path, source) in files("src/stores", "rs") {
        assert!(!source.contains("SessionId"), "{}", path.display());
    }
}

#[test]
fn no_file_holds_two_concepts() {
    for (path, source) in all_rust() {
        let lines = source.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines");
}

#[test]
fn nothing_is_left_for_later() {
    // Written apart, so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("rust,", "ignore"),
        concat!("#[", "ignore]"),
        concat!("thread::", "sleep"),
    ];
    for (path, source) in all_rust() {
        for mark in marks {
            assert!(!source.contains(mark), "{} has `{mark}`", path.display());
        }
    }
}

#[test]
fn the_tests_that_run_over_cookies_are_there() {
    let names = read("tests/http/in_cookies");
    assert!(names.lines().count() > 50);
    for name in names.lines() {
        let (module, test) = name.split_once("::").unwrap();
        let source = read(format!("tests/http/{module}.rs"));
        assert!(source.contains(&format!("fn {test}(")), "{name}");
    }
}

#[test]
fn the_readme_starts_with_the_counter_example() {
    let readme = read("README.md");
    let code = readme.split("```rust\n").nth(1).unwrap();
    let code = code.split("```").next().unwrap();
    let example = read("examples/counter.rs");
    assert_eq!(
        code.trim(),
        example.trim(),
        "README.md and examples/counter.rs differ"
    );
}

#[test]
fn the_feature_tables_are_the_manifests() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("\n[features]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let features: BTreeSet<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .filter(|name| *name != "default")
        .collect();
    let lib = read("src/lib.rs");
    let table = lib.split("//! # Features").nth(1).unwrap();
    let table = table.split("//! # ").next().unwrap();
    let documented: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next())
        .collect();
    assert_eq!(documented, features, "src/lib.rs");
}

#[test]
fn every_clause_has_its_test_and_every_test_its_clause() {
    let clauses_of_stores = clauses("src/store.rs");
    assert!(clauses_of_stores.len() >= 18, "{clauses_of_stores:?}");
    let tests_of_stores = tests_of_clauses("src/testing/conformance/mod.rs");
    assert_eq!(tests_of_stores, clauses_of_stores);
    let clauses_of_caches = clauses("src/cache.rs");
    assert!(clauses_of_caches.len() >= 7, "{clauses_of_caches:?}");
    let tests_of_caches = tests_of_clauses("src/testing/conformance/cache.rs");
    assert_eq!(tests_of_caches, clauses_of_caches);
}

/// What a contract numbers in bold, as the names of tests begin: `c01`.
fn clauses(contract: &str) -> BTreeSet<String> {
    let contract = read(contract);
    let bold = contract.split("**").filter_map(|bold| {
        let name = bold.split(' ').next()?;
        let letter = name.chars().next()?;
        let number: u32 = name.get(1..)?.parse().ok()?;
        Some(format!("{}{number:02}", letter.to_ascii_lowercase()))
    });
    bold.collect()
}

/// The clauses that the macros of that file name tests of.
fn tests_of_clauses(macros: &str) -> BTreeSet<String> {
    let macros = read(macros);
    let names = macros
        .lines()
        .map(str::trim)
        .filter(|line| line.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .filter_map(|line| Some(line.split_once('_')?.0.to_owned()))
        .filter(|name| name.len() == 3);
    names.collect()
}
