//! paho for Python, a client that is not ours: one script for TCP, TLS and WebSocket.
//!
//! Owns the script's arguments and the wait for its end. What it does is in `paho_client.py`.

use std::net::SocketAddr;
use std::process::Stdio;

use super::sensor::weather;
use super::{Site, program, skip};

/// Readings that one run sends and has acked.
pub const READINGS: i64 = 100;

/// How paho reaches the hub.
pub struct Way<'w> {
    pub address: SocketAddr,
    /// `tcp` or `websockets`.
    pub transport: &'w str,
    /// A file in the site's directory, or nothing for no TLS.
    pub authority: &'w str,
    /// Bytes of a message.
    pub size: usize,
}

/// Tells whether paho is there; without it the test is skipped with a line, but fails where CI is set.
pub fn is_there() -> bool {
    let Some(mut probe) = program("python3") else { return false };
    let has_paho = probe.args(["-c", "import paho.mqtt.client"]).output().unwrap().status.success();
    if !has_paho {
        skip("python3 has no paho-mqtt", true);
    }
    has_paho
}

/// Runs the script in both versions of MQTT, and sees that the readings are stored when it has ended.
pub fn run(site: &Site, way: &Way<'_>) {
    for version in ["4", "5"] {
        let before = site.weather_count();
        let mut python = program("python3").unwrap();
        python.current_dir(site.dir()).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/paho_client.py"));
        python.args(["localhost", &way.address.port().to_string(), version, way.transport, way.authority]);
        python.args([&way.size.to_string(), &String::from_utf8(weather(1, before as u64)).unwrap()]);
        let output = python.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success() && output.stdout == b"done\n", "{python:?}: {output:?}");
        assert_eq!(site.weather_count(), before + READINGS);
    }
}
