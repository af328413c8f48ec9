//! A stand-in for systemd: the socket that NOTIFY_SOCKET names, and what was said there.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Site, wait_for};

pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
    watchdog: Option<Duration>,
    said: Vec<(Instant, String)>,
}

impl ServiceManager {
    /// Listens, with `WatchdogSec=` set to `watchdog`.
    pub fn listen(site: &Site, watchdog: Option<Duration>) -> ServiceManager {
        let path = site.file("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        ServiceManager { socket, path, watchdog, said: Vec::new() }
    }

    /// Gives a command the environment that a service of type notify has.
    pub fn of(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.path);
        match self.watchdog {
            Some(watchdog) => command.env("WATCHDOG_USEC", watchdog.as_micros().to_string()),
            None => command.env_remove("WATCHDOG_USEC"),
        };
        command.env_remove("WATCHDOG_PID");
        command
    }

    /// Returns every line that was said, in order.
    pub fn lines(&mut self) -> Vec<String> {
        self.hear();
        self.said.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Forgets what was said so far.
    pub fn forget(&mut self) {
        self.hear();
        self.said.clear();
    }

    /// Returns how long ago the last sign of life came; since the first word, where none came.
    pub fn unfed(&mut self) -> Duration {
        self.hear();
        let fed = self.said.iter().rfind(|(_, line)| line == "WATCHDOG=1").or(self.said.first());
        fed.map_or(Duration::ZERO, |(when, _)| when.elapsed())
    }

    /// Waits for a line that begins with `begin`, and returns it.
    pub fn wait_for(&mut self, begin: &str, within: Duration) -> String {
        let mut found = None;
        wait_for(&format!("the service manager to hear {begin}"), within, || {
            found = self.lines().into_iter().find(|line| line.starts_with(begin));
            found.is_some()
        });
        found.unwrap()
    }

    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let now = Instant::now();
                    let text = std::str::from_utf8(&buffer[..length]).unwrap();
                    self.said.extend(text.lines().map(|line| (now, line.to_owned())));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the stand-in for systemd cannot hear: {error}"),
            }
        }
    }
}
