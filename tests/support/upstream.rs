//! Real servers for a hub to bridge to: Mosquitto 2, and NATS with JetStream and its MQTT side.
//!
//! Owns their processes, configuration and files, which outlive a `kill -9` and a new start on the same port. It never
//! speaks MQTT; `collector` looks at what arrives there.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{SOON, holds_within, program, wait_for};

/// Ports are given out below those that the system gives to outgoing connections: a hub that knocks at a closed port of
/// that range may meet itself, and a server that starts again may find its port taken.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Returns a port not given out before by this process.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let first = (std::process::id().wrapping_mul(64) % u32::from(count)) as u16;
    PORTS.start + (first + NEXT.fetch_add(1, SeqCst)) % count
}

/// Returns a port that nobody listens on. It knocks and does not bind: a program that another thread starts in that moment
/// would hold the bound port until it is itself.
pub fn free_port() -> u16 {
    loop {
        let port = next_port();
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

/// Returns a listener on a port of those that outgoing connections do not get.
pub fn free_listener() -> TcpListener {
    loop {
        match TcpListener::bind(("127.0.0.1", next_port())) {
            Ok(listener) => return listener,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}"),
        }
    }
}

/// A server that can be stopped, killed, and started again where it was. Dropped, it is killed.
pub struct Upstream {
    dir: TempDir,
    command: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    /// Where it speaks MQTT without TLS.
    pub address: SocketAddr,
}

/// Settings of a Mosquitto that acks nothing which it may lose to `kill -9` while its subscriber is connected: with no
/// limit to what is in flight, a message goes into the subscriber's socket before its publisher is acked. With the
/// default of 20, what is beyond waits in memory, acked and lost by a kill until the next save.
pub const UNLIMITED: &str = "max_queued_messages 0\nmax_inflight_messages 0\nautosave_interval 1\n";

/// Starts a Mosquitto with a listener for everybody and `settings` besides; `None` where there is none installed.
pub fn mosquitto(settings: &str) -> Option<Upstream> {
    mosquitto_prepared(|_| settings.to_owned())
}

/// Starts a Mosquitto whose settings name files that `prepare` has put into its directory.
pub fn mosquitto_prepared(prepare: impl FnOnce(&Path) -> String) -> Option<Upstream> {
    let command = program("mosquitto")?;
    let dir = tempfile::Builder::new().prefix("mosquitto-").tempdir().unwrap();
    let port = free_port();
    let settings = prepare(dir.path());
    let anonymous = if settings.contains("allow_anonymous") { "" } else { "allow_anonymous true" };
    let home = dir.path().display();
    let text = format!(
        "{settings}\nlistener {port} 127.0.0.1\n{anonymous}\nuser root\npersistence true\n\
         persistence_location {home}/\nlog_type all\nlog_dest file {home}/mosquitto.log\n"
    );
    let conf = dir.path().join("mosquitto.conf");
    fs::write(&conf, text).unwrap();
    let arguments = vec!["-c".to_owned(), conf.display().to_string()];
    let mut upstream = Upstream::new(dir, &command, arguments, port);
    upstream.start();
    Some(upstream)
}

/// Starts a NATS server with MQTT and JetStream; `None` where there is none installed.
pub fn nats() -> Option<Upstream> {
    let command = program("nats-server")?;
    let dir = tempfile::Builder::new().prefix("nats-").tempdir().unwrap();
    let (port, own) = (free_port(), free_port());
    let conf = dir.path().join("nats.conf");
    let log = dir.path().join("nats.log");
    let text = format!(
        "server_name: upstream\nlisten: 127.0.0.1:{own}\nlog_file: {:?}\njetstream {{ store_dir: {:?} }}\n\
         mqtt {{ listen: \"127.0.0.1:{port}\", max_ack_pending: 10000 }}\n",
        log.display().to_string(),
        dir.path().join("jetstream").display().to_string(),
    );
    fs::write(&conf, text).unwrap();
    let mut upstream = Upstream::new(dir, &command, vec!["-c".to_owned(), conf.display().to_string()], port);
    upstream.start();
    Some(upstream)
}

impl Upstream {
    fn new(dir: TempDir, command: &Command, arguments: Vec<String>, port: u16) -> Upstream {
        let command = PathBuf::from(command.get_program());
        Upstream { dir, command, arguments, child: None, address: ([127, 0, 0, 1], port).into() }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a server with a configuration that lies in `dir` with all that it names.
    pub fn of_files(dir: TempDir, command: &Command, conf: &str, port: u16) -> Upstream {
        let arguments = vec!["-c".to_owned(), dir.path().join(conf).display().to_string()];
        let mut upstream = Upstream::new(dir, command, arguments, port);
        upstream.start();
        upstream
    }

    /// Returns the address as the bridge's `url`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Starts it, and waits until it listens.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let output = fs::File::create(self.file("output")).unwrap();
        let mut command = Command::new(&self.command);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        self.child = Some(command.spawn().unwrap());
        wait_for("the upstream to listen", SOON, || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the upstream ended: {status}: {}", self.said());
            }
            TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).is_ok()
        });
    }

    /// Ends it as an operator does; what it was sent is saved.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        if !holds_within(SOON, || child.try_wait().unwrap().is_some()) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the upstream does not end");
        }
    }

    pub fn kill_9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Returns what it wrote to its log and its output.
    pub fn said(&self) -> String {
        let text = |name| fs::read(self.file(name)).unwrap_or_default();
        let files = ["output", "mosquitto.log", "nats.log"].map(text);
        String::from_utf8_lossy(&files.concat()).into_owned()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill_9();
        }
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("--- end of the upstream's log:\n{}\n---", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }
}
