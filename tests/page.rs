//! The page in a real browser, over a real hub: what it shows, how it stays fresh, and what it never does.
//!
//! Owns the hub and the sensor behind the page; what the browser has to find is in `page/browse.mjs`. Screenshots go to the
//! directory that `STATIONHUB_SCREENSHOTS` names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::mqtt::Connect;
use support::station::Station;
use support::{Hub, program, skip};

/// Where npm's packages are that the browser is driven with.
fn modules() -> Option<PathBuf> {
    let named = std::env::var_os("STATIONHUB_NODE_MODULES").map(PathBuf::from);
    let found = named.filter(|modules| ["playwright-core", "axe-core"].iter().all(|name| modules.join(name).is_dir()));
    if found.is_none() {
        skip("STATIONHUB_NODE_MODULES names no directory with npm's packages playwright-core and axe-core", true);
    }
    found
}

/// The script in the browser; dropped, it is killed.
struct Visitor(Child);

impl Visitor {
    fn start(mut node: Command, arguments: [OsString; 4]) -> Visitor {
        node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/browse.mjs")).args(arguments);
        Visitor(node.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_browser_sees_values_charts_and_gaps_stays_live_over_a_restart_and_finds_nothing_to_complain_of() {
    let Some(modules) = modules() else { return };
    let (Some(node), Some(chromium)) = (program("node"), program("chromium")) else { return };
    let station = Station::with_past("");
    let hub = station.site.start();
    station.wait_summarised(&hub);
    let address = hub.ready["http"].as_str().unwrap().to_owned();
    let screenshots = std::env::var_os("STATIONHUB_SCREENSHOTS").unwrap_or_default();
    let url = OsString::from(format!("http://{address}"));
    let mut visitor = Visitor::start(node, [url, modules.into(), chromium.get_program().to_owned(), screenshots]);
    // What the script wants to happen to the hub it says in a line; it ends by itself, also where it waits in vain.
    let mut running: Option<Hub> = Some(hub);
    for line in BufReader::new(visitor.0.stdout.take().unwrap()).lines().map(Result::unwrap) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("publish", temperature) => {
                let mut sensor = Connect::new(4, "sensor").open(running.as_ref().unwrap().mqtt);
                station.send(&mut sensor, temperature.parse().ok());
            }
            ("kill", _) => running.take().unwrap().kill_9(),
            ("restart", _) => {
                running = Some(station.site.start_with(station.site.run_command_with_http(&address)));
            }
            _ => println!("{line}"),
        }
    }
    assert!(visitor.0.wait().unwrap().success(), "the browser found something, see above");
    assert!(running.unwrap().stop().success());
}
