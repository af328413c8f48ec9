//! The channel that runs a program: its arguments are filled, the text goes to its standard input.
//!
//! Owns the process and its end: it is killed, with all that it has started, once its time is over. No shell is asked.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, Command};

use super::super::error::AlertError;
use super::super::message::Message;
use crate::config::template::{Escape, Template};

/// How much of what a program says on stderr is told, bytes.
const SAID_BYTES_MAX: u64 = 200;

/// How long after its end a program is listened to.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(200);

/// The program to run.
pub struct Run {
    program: PathBuf,
    arguments: Vec<Template>,
    timeout: Duration,
}

/// Kills a process and all that it has started when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Where nobody of it is left, there is nobody to kill.
            kill_process_group(leader, Signal::KILL).unwrap_or_default();
        }
    }
}

impl Run {
    pub(super) fn new(program: PathBuf, arguments: Vec<Template>, timeout: Duration) -> Run {
        Run { program, arguments, timeout }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), AlertError> {
        let program = || self.program.display().to_string();
        let not_run = |error: std::io::Error| AlertError::NotRun { program: program(), reason: error.to_string() };
        let filled = |argument: &Template| argument.fill(|field| message.field(field).replace('\0', ""), Escape::None);
        let mut command = Command::new(&self.program);
        // What is meant for the hub alone: its secrets, and the ear of the service manager.
        for (name, _) in std::env::vars_os() {
            let is_own = name.as_encoded_bytes().starts_with(b"STATIONHUB_");
            if is_own || ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].iter().any(|own| name == *own) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(self.arguments.iter().map(filled))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_run)?;
        let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let mut said = Vec::new();
        let status = {
            let talk = talk(stdin, stderr, format!("{}\n{}\n", message.title, message.text), &mut said);
            tokio::pin!(talk);
            tokio::select! {
                () = &mut talk => child.wait().await,
                status = child.wait() => {
                    // What it has started may hold its stderr open for as long as it likes.
                    tokio::time::timeout(LAST_WORDS_TIME_MAX, talk).await.unwrap_or_default();
                    status
                }
            }
        };
        let status = status.map_err(not_run)?;
        let said = String::from_utf8_lossy(&said).trim().escape_debug().to_string();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        if status.success() { Ok(()) } else { Err(AlertError::Failed { program: program(), status, said }) }
    }
}

/// Gives a program its input, and gathers how what it says on stderr begins.
async fn talk(stdin: Option<ChildStdin>, stderr: Option<ChildStderr>, input: String, said: &mut Vec<u8>) {
    let give = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input, as notify-send, has all it needs in its arguments.
            stdin.write_all(input.as_bytes()).await.unwrap_or_default();
        }
    };
    let listen = async {
        if let Some(mut stderr) = stderr {
            (&mut stderr).take(SAID_BYTES_MAX).read_to_end(said).await.unwrap_or_default();
            // What it says beyond that is read, so that it does not wait for a reader.
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.unwrap_or_default();
        }
    };
    tokio::join!(give, listen);
}
