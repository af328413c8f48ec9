//! Users of the broker, made as their owner makes them.
//!
//! Owns the call of `stationhub passwd`. It never writes a file of users itself.

use std::io::Write;
use std::process::{Output, Stdio};

use super::Site;

/// Runs `stationhub passwd` with `input` on its standard input.
pub fn passwd(site: &Site, arguments: &[&str], input: &str) -> Output {
    let mut command = site.command("passwd");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses may have ended before it read anything.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

/// Adds a user to the file that the configuration names.
pub fn add(site: &Site, name: &str, password: &str) {
    let output = passwd(site, &["add", name], &format!("{password}\n"));
    assert!(output.status.success(), "{output:?}");
}
