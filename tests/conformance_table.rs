//! Holds `docs/mqtt-conformance.md` to what it says: every statement once, every file and test that it names there.
//!
//! Owns the check of the document. Whether a test proves its statement is for a reader to judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// How many numbered statements each chapter of a standard has.
const CHAPTERS: [(&str, &[(&str, usize)]); 2] = [
    ("MQTT 3.1.1", &[("1", 3), ("2", 9), ("3", 95), ("4", 26), ("6", 4), ("7", 4)]),
    ("MQTT 5", &[("1", 5), ("2", 7), ("3", 175), ("4", 60), ("6", 4)]),
];

/// A row of a table.
struct Row {
    standard: String,
    id: String,
    binds: String,
    met_in: String,
    held_by: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rows() -> Vec<Row> {
    let document = fs::read_to_string(root().join("docs/mqtt-conformance.md")).unwrap();
    let mut standard = String::new();
    let mut rows = Vec::new();
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            standard = title.to_owned();
        }
        if !line.starts_with("| MQTT-") {
            continue;
        }
        let cells: Vec<String> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        let [id, _, binds, met_in, held_by] = cells.try_into().unwrap_or_else(|_| panic!("five cells: {line}"));
        rows.push(Row { standard: standard.clone(), id, binds, met_in, held_by });
    }
    rows
}

/// Returns what stands between backticks in a cell and is a path of the source.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2).filter(|name| name.starts_with("src/") || name.starts_with("tests/"))
}

/// Tells whether a file has a test of that name.
fn has_test(path: &Path, name: &str) -> bool {
    let Ok(source) = fs::read_to_string(path) else { return false };
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = [format!("fn {name}("), format!("async fn {name}(")];
    lines.iter().enumerate().any(|(number, line)| {
        begins.iter().any(|begin| line.starts_with(begin.as_str()))
            && lines[..number].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
    })
}

#[test]
fn every_statement_of_both_standards_stands_in_the_table_once() {
    let mut counted: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut seen = HashSet::new();
    for row in rows() {
        assert!(seen.insert((row.standard.clone(), row.id.clone())), "{} stands twice in {}", row.id, row.standard);
        let (section, number) = row.id.strip_prefix("MQTT-").and_then(|id| id.split_once('-')).unwrap();
        assert!(section.split('.').count() == 3 && number.parse::<u8>().is_ok(), "{} is no id", row.id);
        *counted.entry((row.standard, section[..1].to_owned())).or_default() += 1;
    }
    for (standard, chapters) in CHAPTERS {
        for (chapter, statements) in chapters {
            let found = counted.remove(&(standard.to_owned(), (*chapter).to_owned()));
            assert_eq!(found, Some(*statements), "{standard}, chapter {chapter}");
        }
    }
    assert!(counted.is_empty(), "not in the standards: {counted:?}");
}

#[test]
fn every_test_and_file_that_the_table_names_exists() {
    let mut wrong = Vec::new();
    for row in rows() {
        for name in named(&row.met_in).chain(named(&row.held_by)) {
            let exists = match name.split_once("::") {
                Some((path, test)) => has_test(&root().join(path), test.rsplit("::").next().unwrap_or(test)),
                None => root().join(name).is_file(),
            };
            if !exists {
                wrong.push(format!("{} ({}) names {name}", row.id, row.standard));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_binds_the_server_is_held_by_a_test_or_told_why_not() {
    let mut open = Vec::new();
    for row in rows() {
        assert!(["server", "client", "both"].contains(&row.binds.as_str()), "{} binds {:?}", row.id, row.binds);
        let held = named(&row.held_by).any(|name| name.contains("::"));
        let told = row.held_by.chars().filter(|letter| letter.is_alphabetic()).count() > 20;
        if row.binds != "client" && !held && !told {
            open.push(format!("{} ({})", row.id, row.standard));
        }
    }
    assert!(open.is_empty(), "neither a test nor a reason: {}", open.join(", "));
}
