//! Damage by the dice, judged by what SQLite's own `.recover` makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::*;
use crate::config::Synchronous;
use crate::place::beside;

/// A small generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A row as text that is the same whatever kind of number a value was stored as.
fn plain(values: &[Value]) -> String {
    let one = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::Integer(value) => format!("{}", *value as f64),
        Value::Real(value) => format!("{value}"),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => format!("{bytes:?}"),
    };
    values.iter().map(one).collect::<Vec<_>>().join("|")
}

fn rows(connection: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let Ok(mut statement) = connection.prepare(sql) else { return Vec::new() };
    let columns = statement.column_count();
    let found = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    found.filter_map(Result::ok).collect()
}

const READINGS: [&str; 2] = ["weather_data", "magnetic_flux_data"];

/// Makes a database with rows of all kinds, some of them in its log; `made` gets a copy while the log is there.
fn make(dir: &Path, made: &Path) -> HashSet<String> {
    let path = dir.join("whole.db");
    let connection = crate::store::schema::open(&path, Synchronous::Normal, true).unwrap();
    connection.execute_batch("PRAGMA wal_autocheckpoint = 0; BEGIN").unwrap();
    fill(&connection, 0, 1_500);
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    for part in 0..12 {
        connection.execute_batch("BEGIN").unwrap();
        fill(&connection, 1_500 + part * 40, 40);
        connection.execute_batch("COMMIT").unwrap();
    }
    connection.execute_batch("DELETE FROM quarantine WHERE id <= 40").unwrap();
    copy(&path, made);
    originals(&connection)
}

fn copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        fs::copy(beside(from, suffix), beside(to, suffix)).unwrap();
    }
}

fn originals(connection: &Connection) -> HashSet<String> {
    let of = |table: &&str| {
        let found = rows(connection, &format!("SELECT * FROM {table}"));
        found.into_iter().map(move |row| format!("{table} {}", plain(&row))).collect::<Vec<_>>()
    };
    READINGS.iter().flat_map(of).collect()
}

fn fill(connection: &Connection, first: i64, count: i64) {
    for number in first..first + count {
        let time = format!(
            "2026-11-{:02} {:02}:{:02}:{:02}",
            number / 86_400 + 1,
            number / 3600 % 24,
            number / 60 % 60,
            number % 60
        );
        connection
            .execute(
                "INSERT INTO weather_data(timestamp, sample_interval, temperature, humidity, wind_direction, anemometer_count,
                   created_at, source_id, received_ms) VALUES (?1, 5000, ?2, 61.5, 96, ?3, ?4, 1, ?5)",
                (1_764_000_000 + number, number as f64 / 7.0, number * 3, &time, 1_764_000_000_000 + number),
            )
            .unwrap();
        connection
            .execute(
                "INSERT INTO magnetic_flux_data(x, y, z, created_at, source_id, received_ms) VALUES (?1, ?2, ?3, ?4, 2, ?5)",
                (number as f64 / 3.0, -number, 305, &time, 1_764_000_000_000 + number),
            )
            .unwrap();
        if number % 10 == 0 {
            connection
                .execute(
                    "INSERT INTO outbox(received_ms, topic, retain, payload) VALUES (?1, 'house/lamp', 0, ?2)",
                    (number, vec![7u8; 100 + number as usize % 9_000]),
                )
                .unwrap();
            connection
                .execute(
                    "INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
                     VALUES (?1, 't', 'c', 1, 'not JSON', 'at 0', ?2)",
                    (number, vec![b'{'; 50 + number as usize % 6_000]),
                )
                .unwrap();
        }
    }
}

/// Returns all readings that the walk finds.
fn salvaged(path: &Path) -> HashSet<String> {
    let mut walk = Walk::begin(Pages::open(path).unwrap());
    let known: Vec<Option<Table>> = walk.trees().iter().map(|tree| Table::of_name(&tree.name)).collect();
    let mut found = HashSet::new();
    while let Some(page) = walk.next() {
        let led_from = match page.tree {
            Some(tree) if known[tree].is_none() => continue,
            Some(tree) => known[tree],
            None => None,
        };
        for Raw { id, mut values } in page.rows {
            if let Some(table @ (Table::Weather | Table::Magnetic)) = table_of(&values, led_from) {
                values[0] = Value::Integer(id);
                found.insert(format!("{} {}", table.name(), plain(&values)));
            }
        }
    }
    found
}

/// Runs what recovers a database: the program that is named (`tests/support/recover.c`), or SQLite's shell.
fn run_recover(path: &Path, into: &Path) {
    if let Some(program) = std::env::var_os("STATIONHUB_RECOVER") {
        Command::new(program).arg(path).arg(into).output().unwrap();
        return;
    }
    let Ok(script) = Command::new("sqlite3").arg(path).arg(".recover --ignore-freelist").output() else { return };
    let mut statements = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut statements, &script.stdout).unwrap();
    std::io::Seek::rewind(&mut statements).unwrap();
    Command::new("sqlite3").arg(into).stdin(statements).output().unwrap();
}

/// Returns what SQLite makes of it: a database with a table of what it could not place.
fn recovered(path: &Path, into: &Path) -> HashSet<String> {
    run_recover(path, into);
    let connection = Connection::open(into).unwrap();
    let mut found = originals(&connection);
    for mut row in rows(&connection, "SELECT * FROM lost_and_found") {
        // Where it was, how many columns there are, its number, and they; its own number is among them as NULL.
        let (id, count) = (row[3].clone(), row[2].clone());
        let Value::Integer(count) = count else { continue };
        let mut values: Vec<Value> = row.drain(4..).take(count as usize).collect();
        if let Some(first) = values.first_mut() {
            *first = id;
        }
        found.extend(READINGS.iter().map(|table| format!("{table} {}", plain(&values))));
    }
    found
}

/// Damages a database or its log, somewhere, somehow; says what it did.
fn damage(path: &Path, dice: &mut Dice) -> String {
    let in_log = dice.below(4) == 0;
    let file = if in_log { beside(path, "-wal") } else { path.to_owned() };
    let mut bytes = fs::read(&file).unwrap();
    let len = bytes.len() as u64;
    let mut said = String::new();
    for _ in 0..1 + dice.below(4) {
        let start = match dice.below(4) {
            0 => dice.below(100),
            1 => dice.below(4096 * 2),
            _ => dice.below(len),
        };
        let count = [1, 4, 60, 512, 4096, 20_000][dice.below(6) as usize];
        let end = (start + count).min(len);
        let how = dice.below(3);
        for byte in &mut bytes[start as usize..end as usize] {
            *byte = match how {
                0 => 0,
                1 => dice.below(256) as u8,
                _ => *byte ^ 1 << dice.below(8),
            };
        }
        said += &format!(" {start}..{end} of {len} by {how}");
    }
    if dice.below(12) == 0 {
        bytes.truncate(dice.below(len) as usize);
        said += &format!(" cut to {}", bytes.len());
    }
    fs::write(&file, bytes).unwrap();
    format!("{}{said}", if in_log { "log" } else { "file" })
}

#[test]
fn a_whole_database_and_its_log_are_read_to_the_last_row() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made.db");
    let originals = make(dir.path(), &made);
    let found = salvaged(&made);
    assert_eq!(originals.len(), 2 * (1_500 + 12 * 40));
    assert_eq!(found, originals);
}

#[test]
fn whatever_is_damaged_all_that_recover_can_read_is_salvaged() {
    let rounds = std::env::var("STATIONHUB_DAMAGE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made.db");
    let originals = make(dir.path(), &made);
    // Of a copy: to recover it takes its log away.
    let sound = dir.path().join("sound.db");
    copy(&made, &sound);
    if recovered(&sound, &dir.path().join("recovered.db")) != originals {
        assert!(std::env::var_os("CI").is_none(), "CI must have a .recover that recovers a sound database");
        eprintln!("skipped: .recover of sqlite3 does not work here, and STATIONHUB_RECOVER names nothing in its place");
        return;
    }
    let (mut mine, mut theirs) = (0, 0);
    for round in 0..rounds {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("a.db");
        copy(&made, &path);
        let what = damage(&path, &mut Dice(round));
        let found = salvaged(&path);
        let recovered = recovered(&path, &here.path().join("recovered.db"));
        let missing: Vec<&String> =
            recovered.iter().filter(|row| originals.contains(*row) && !found.contains(*row)).collect();
        let (here, there) = (found.intersection(&originals).count(), recovered.intersection(&originals).count());
        println!("round {round}: {here} salvaged, {there} by .recover; {what}");
        assert!(missing.is_empty(), "round {round}, {what}: {} rows, e.g. {:?}", missing.len(), missing[0]);
        (mine, theirs) = (mine + here, theirs + there);
    }
    println!("{mine} salvaged, {theirs} by .recover, of {}", originals.len() as u64 * rounds);
}

#[test]
fn no_bytes_make_the_walk_panic_or_go_on_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made.db");
    make(dir.path(), &made);
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let path = dir.path().join("noise.db");
        for suffix in ["", "-wal"] {
            let mut bytes = fs::read(beside(&made, suffix)).unwrap();
            let one_in = 1 << (3 + dice.below(9));
            for byte in &mut bytes {
                if dice.below(one_in) == 0 {
                    *byte = dice.below(256) as u8;
                }
            }
            fs::write(beside(&path, suffix), bytes).unwrap();
        }
        salvaged(&path);
    }
}
