//! `stationhub passwd`: what it writes, what it refuses, and what a terminal shows meanwhile.
//!
//! Owns the file of users as it is written. Who gets in with it is in `access.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::process::{Command, Output, Stdio};

use support::mqtt::Connect;
use support::users::passwd;
use support::{Hub, Site, is_root, program, skip, without_settings};

const SECRET: &str = "hunter2-Ωmega";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn knows(hub: &Hub, version: u8, name: &str, password: &str) -> bool {
    Connect::new(version, "c").login(name, password).try_open(hub.mqtt).is_ok()
}

#[test]
fn passwd_adds_changes_lists_and_removes() {
    let site = Site::with_config("[broker]\nusers = \"users\"\n");
    let code = |arguments: &[&str], input: &str| passwd(&site, arguments, input).status.code().unwrap();
    assert_eq!(code(&["add", "b"], "one\n"), 0);
    assert_eq!(code(&["add", "a"], "two"), 0);
    assert_eq!(fs::metadata(site.file("users")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(said(&passwd(&site, &["list"], "")), "a\nb\n");
    let before = fs::read_to_string(site.file("users")).unwrap();
    assert!(before.starts_with("a:$argon2id$v=19$m=7168,t=5,p=1$") && !before.contains("two"), "{before}");
    assert_eq!(code(&["set", "a"], "three\r\n"), 0);
    let after = fs::read_to_string(site.file("users")).unwrap();
    assert!(before.lines().next() != after.lines().next() && before.lines().last() == after.lines().last());

    // What is refused changes nothing.
    for (arguments, input) in [
        (&["add", "a"][..], "\n"),
        (&["add", "a"], ""),
        (&["add", "a:b"], "x\n"),
        (&["add", "a\nb"], "x\n"),
        (&["add", ""], "x\n"),
        (&["remove", "nobody"], ""),
        (&["add", "c", "--file", "/nowhere/users"], "x\n"),
    ] {
        assert_eq!(code(arguments, input), 1, "{arguments:?}");
        assert_eq!(fs::read_to_string(site.file("users")).unwrap(), after, "{arguments:?}");
    }
    let hub = site.start();
    assert!(knows(&hub, 4, "a", "three") && knows(&hub, 4, "b", "one") && !knows(&hub, 4, "a", "two"));
    drop(hub);
    assert_eq!(code(&["remove", "a"], ""), 0);
    assert_eq!(said(&passwd(&site, &["list"], "")), "b\n");
    assert!(!site.file("users.new").exists());
    assert_eq!(code(&["add", "z", "--file", site.file("other").to_str().unwrap()], "x\n"), 0);
    assert!(site.file("other").exists());
}

#[test]
fn passwd_without_a_file_says_how_to_name_one_and_does_not_touch_a_broken_one() {
    let site = Site::new();
    let output = passwd(&site, &["add", "a"], "x\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("--file") && said(&output).contains("users = "), "{}", said(&output));
    fs::write(site.file("users"), format!("a:{SECRET}\n")).unwrap();
    let output = passwd(&site, &["add", "b", "--file", site.file("users").to_str().unwrap()], "x\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("users:1: ") && !said(&output).contains(SECRET), "{}", said(&output));
    assert_eq!(fs::read_to_string(site.file("users")).unwrap(), format!("a:{SECRET}\n"));
}

#[test]
fn what_root_writes_belongs_to_the_hubs_user_and_a_link_stays_a_link() {
    if !is_root() {
        return skip("only root can give a file away", false);
    }
    let site = Site::with_config("[broker]\nusers = \"link\"\n");
    fs::create_dir(site.file("hub")).unwrap();
    chown(site.file("hub"), Some(4321), Some(4322)).unwrap();
    symlink("hub/users", site.file("link")).unwrap();
    let owner = || {
        let file = fs::metadata(site.file("hub/users")).unwrap();
        (file.uid(), file.gid(), file.mode() & 0o777)
    };
    fs::write(site.file("hub/users"), "").unwrap();
    chown(site.file("hub/users"), Some(4323), Some(4324)).unwrap();
    assert!(passwd(&site, &["add", "a"], "x\n").status.success());
    assert_eq!(owner(), (4323, 4324, 0o600), "it keeps its owner");
    assert!(fs::symlink_metadata(site.file("link")).unwrap().is_symlink());
    fs::remove_file(site.file("hub/users")).unwrap();
    assert!(passwd(&site, &["add", "a", "--file", "hub/users"], "x\n").status.success());
    assert_eq!(owner(), (4321, 4322, 0o600), "a new one gets its directory's");
}

/// Runs `passwd add` on a terminal, types each answer once it is asked for, and returns what the terminal showed.
fn on_a_terminal(site: &Site, answers: &[&str]) -> Option<(bool, String)> {
    let mut terminal: Command = program("script")?;
    without_settings(&mut terminal);
    let hub = env!("CARGO_BIN_EXE_stationhub");
    let command = format!("{hub} passwd add sensor --file {}", site.file("users").display());
    terminal.args(["-q", "-e", "-c", &command, "/dev/null"]).current_dir(site.dir());
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    let mut byte = [0];
    let mut answers = answers.iter();
    // The tests' deadline is the harness's: a terminal that asks for nothing more ends.
    while screen.read(&mut byte).unwrap() == 1 {
        shown.push(byte[0]);
        if shown.ends_with(b": ")
            && let Some(answer) = answers.next()
        {
            keys.write_all(answer.as_bytes()).unwrap();
        }
    }
    Some((child.wait().unwrap().success(), String::from_utf8_lossy(&shown).into_owned()))
}

#[test]
fn passwd_on_a_terminal_asks_twice_and_shows_nothing_of_what_is_typed() {
    let site = Site::new();
    let good = format!("{SECRET}\n");
    let Some((done, shown)) = on_a_terminal(&site, &[&good, "other\n"]) else { return };
    assert!(!done && shown.contains("the two passwords differ") && !site.file("users").exists(), "{shown}");
    let (done, shown) = on_a_terminal(&site, &["half\x03"]).unwrap();
    assert!(!done && shown.contains("interrupted") && !site.file("users").exists(), "{shown}");
    let (done, shown) = on_a_terminal(&site, &[&good, &good]).unwrap();
    assert!(done && shown.contains("added") && !shown.contains(SECRET), "{shown}");
    let mut run = site.run_command();
    run.env("STATIONHUB_BROKER__USERS", site.file("users"));
    let hub = site.start_with(run);
    assert!(knows(&hub, 5, "sensor", SECRET));
}
