//! Starts the real binary in a directory of its own and looks at it from outside: log, database, signals, exit.
//!
//! Owns the harness of the end-to-end tests. It never looks into the hub's library: what a test sees, a user sees.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::let_underscore_must_use)]

pub mod alerts;
pub mod bridged;
pub mod collector;
pub mod disk;
pub mod fake;
pub mod feeder;
pub mod health;
pub mod hostile;
pub mod mqtt;
pub mod networks;
pub mod packet;
pub mod paho;
pub mod proxy;
pub mod sensor;
pub mod station;
pub mod systemd;
pub mod tls;
pub mod upstream;
pub mod users;
pub mod v5;
pub mod watch;
pub mod webhook;
pub mod websocket;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
pub use rustix::process::Signal;
use tempfile::TempDir;

/// How long a test waits for what should happen at once, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(15);
/// How long a test waits for what the hub does by itself after a pause: healing, health lines.
pub const PATIENTLY: Duration = Duration::from_secs(60);

/// A directory with all that one hub needs; it outlives the hub's restarts.
pub struct Site {
    dir: TempDir,
    db: PathBuf,
    user: Option<u32>,
    binary: PathBuf,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::Builder::new().prefix("stationhub-").tempdir().unwrap();
        let db = dir.path().join("weather_data.db");
        Site { dir, db, user: None, binary: PathBuf::from(env!("CARGO_BIN_EXE_stationhub")) }
    }

    pub fn with_config(hub_toml: &str) -> Site {
        let site = Site::new();
        fs::write(site.file("hub.toml"), hub_toml).unwrap();
        site
    }

    /// Puts the database elsewhere in the directory.
    pub fn with_db(mut self, name: &str) -> Site {
        self.db = self.file(name);
        self
    }

    /// Gives the directory to `user` and runs the hub as that user; the tests must be root for it.
    pub fn owned_by(mut self, user: u32) -> Site {
        let binary = self.file("stationhub");
        if fs::hard_link(&self.binary, &binary).is_err() {
            fs::copy(&self.binary, &binary).unwrap();
        }
        self.binary = binary;
        self.user = Some(user);
        chown(self.dir.path(), Some(user), Some(user)).unwrap();
        self
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn db(&self) -> &Path {
        &self.db
    }

    /// Returns the path of a file that lies beside the database: `.lock`, `.sock`, `-wal`, `-shm`.
    pub fn beside_db(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.db.display()))
    }

    /// Returns a command of the hub's, `--config` (where there is one) and `--db` given.
    pub fn command(&self, name: &str) -> Command {
        let mut command = self.bare();
        command.arg(name).arg("--db").arg(&self.db);
        if self.file("hub.toml").exists() {
            command.arg("--config").arg(self.file("hub.toml"));
        }
        command
    }

    /// Returns the binary without arguments, in the site's directory and with no environment of the test's own.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).env_remove("RUST_LOG");
        without_settings(&mut command);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Returns `run` with all its flags, files in the site's directory, ports chosen by the system.
    pub fn run_command(&self) -> Command {
        self.run_command_with_http("127.0.0.1:0")
    }

    /// Returns the same with HTTP on an address of one's own.
    pub fn run_command_with_http(&self, address: &str) -> Command {
        let mut command = self.command("run");
        for (flag, file) in [("--pid", "hub.pid"), ("--ready-file", "ready.json"), ("--log", "hub.log")] {
            command.arg(flag).arg(self.file(file));
        }
        command.args(["--listen", "127.0.0.1:0", "--http", address]);
        command
    }

    /// Returns what `stationhub status --json` tells.
    pub fn status(&self) -> serde_json::Value {
        let mut status = self.command("status");
        status.arg("--json");
        let output = self.refused(status, PATIENTLY);
        serde_json::from_slice(&output.stdout).expect("status prints JSON")
    }

    /// Returns `run` on a disk whose syncs fail, hang or are slow, as FAILSYNC, HANGSYNC and SLOWSYNC_MS in its environment
    /// say.
    pub fn run_command_on_a_bad_disk(&self) -> Command {
        self.run_command_with_shim("failsync")
    }

    /// Returns `run` with a shim of `tests/support` between it and the system.
    pub fn run_command_with_shim(&self, name: &str) -> Command {
        let shim = self.file(&format!("{name}.so"));
        let source = format!("{}/tests/support/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(source).arg("-ldl").status();
        assert!(built.expect("a C compiler, as for the build").success());
        let mut command = self.run_command();
        command.env("LD_PRELOAD", &shim);
        command
    }

    pub fn start(&self) -> Hub {
        self.start_with(self.run_command())
    }

    pub fn start_with(&self, mut command: Command) -> Hub {
        let output = fs::File::create(self.file("output")).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        self.start_as_it_is(command)
    }

    /// Starts the hub with its outputs where the command has them.
    pub fn start_as_it_is(&self, mut command: Command) -> Hub {
        let ready_file = self.file("ready.json");
        let _ = fs::remove_file(&ready_file);
        let child = command.spawn().expect("the hub's binary starts");
        let mut hub = Hub {
            child,
            ready: serde_json::Value::Null,
            mqtt: ([127, 0, 0, 1], 0).into(),
            log: self.file("hub.log"),
            output: self.file("output"),
        };
        wait_for("the hub to serve", PATIENTLY, || {
            let text = fs::read_to_string(&ready_file).unwrap_or_default();
            hub.ready = serde_json::from_str(&text).unwrap_or_default();
            let serves = hub.ready["pid"] == hub.pid();
            if !serves && let Some(status) = hub.child.try_wait().unwrap() {
                panic!("the hub ended before it served: {status}");
            }
            serves
        });
        hub.mqtt = hub.ready["mqtt"][0].as_str().unwrap().parse().unwrap();
        hub
    }

    /// Runs `command` to its end, which must come within `within`, and returns what it said.
    pub fn refused(&self, mut command: Command, within: Duration) -> Output {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if !holds_within(within, || child.try_wait().unwrap().is_some()) {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{command:?} did not end within {within:?}: {output:?}");
        }
        child.wait_with_output().unwrap()
    }

    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        rows(&reader(&self.db), sql)
    }

    /// Returns the one number that `sql` asks for.
    pub fn number(&self, sql: &str) -> i64 {
        reader(&self.db).query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Returns how many weather readings are stored.
    pub fn weather_count(&self) -> i64 {
        self.number("SELECT count(*) FROM weather_data")
    }
}

pub fn reader(db: &Path) -> Connection {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(SOON).unwrap();
    connection
}

pub fn rows(connection: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    statement
        .query_map([], |row| (0..columns).map(|column| row.get(column)).collect())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// A running hub. Dropped, it is killed; dropped by a panic, it prints the end of its log.
pub struct Hub {
    child: Child,
    pub ready: serde_json::Value,
    pub mqtt: SocketAddr,
    log: PathBuf,
    output: PathBuf,
}

impl Hub {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks for a graceful stop and returns how it ended; it must end within 10 s.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(Duration::from_secs(10))
    }

    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        wait_for("the hub's end", within, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the place where the log ends now, to look from there on with [`Hub::said_since`].
    pub fn log_end(&self) -> usize {
        self.log().len()
    }

    /// Returns the log lines after `mark` that contain every one of `words`, in any case of letters.
    pub fn said_since(&self, mark: usize, words: &[&str]) -> Vec<String> {
        let log = self.log();
        let fits = |line: &&str| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        };
        log.get(mark..).unwrap_or(&log).lines().filter(fits).map(str::to_owned).collect()
    }

    pub fn wait_said(&self, mark: usize, words: &[&str], within: Duration) {
        wait_for(&format!("a log line with {words:?}"), within, || !self.said_since(mark, words).is_empty());
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            for path in [&self.output, &self.log] {
                let text = fs::read(path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(40)..];
                eprintln!("--- end of {}:\n{}\n---", path.display(), tail.join("\n"));
            }
        }
    }
}

/// Takes the tests' own variables out of a command's environment, in which the hub would see keys of its configuration.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if name.starts_with("STATIONHUB_") {
            command.env_remove(name);
        }
    }
}

/// Waits until `condition` holds; false where it does not within `within`.
pub fn holds_within(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while !condition() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(left.min(Duration::from_millis(2)));
    }
    true
}

/// Waits for a condition, and panics with what was waited for where it does not come.
pub fn wait_for(what: &str, within: Duration, condition: impl FnMut() -> bool) {
    assert!(holds_within(within, condition), "waited {within:?} for {what}");
}

/// Waits for a moment that the dice chose, so that a blow falls anywhere in the hub's work.
pub fn wait_for_a_moment(dice: &mut Dice, micros_max: u64) {
    let moment = Instant::now() + Duration::from_micros(dice.below(micros_max));
    wait_for("the moment of the blow", SOON, || Instant::now() >= moment);
}

/// Returns `name` as a command; without it the test is skipped with a line, but fails where CI is set.
pub fn program(name: &str) -> Option<Command> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let system = [PathBuf::from("/usr/bin"), PathBuf::from("/usr/sbin")];
    let found = system
        .into_iter()
        .chain(std::env::split_paths(&paths))
        .map(|dir| dir.join(name))
        .find(|path| fs::metadata(path).is_ok_and(|file| file.mode() & 0o111 != 0));
    match found {
        Some(path) => Some(Command::new(path)),
        None => {
            skip(&format!("{name} is not installed"), true);
            None
        }
    }
}

/// Says why a test does not run; where CI is set and `needed_in_ci`, that is a failure.
pub fn skip(why: &str, needed_in_ci: bool) {
    assert!(!(needed_in_ci && std::env::var_os("CI").is_some()), "CI must have it: {why}");
    eprintln!("skipped: {why}");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A small generator (splitmix64), so that a failing run can be repeated with `STATIONHUB_SEED`.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Dice {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let given = std::env::var("STATIONHUB_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(clock);
        println!("seed: STATIONHUB_SEED={seed}");
        Dice(seed)
    }

    /// Returns the dice of the part of a run that has this number, whoever else throws meanwhile.
    pub fn of_part(&self, number: u64) -> Dice {
        Dice(self.0 ^ Dice(number).below(u64::MAX))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}
