//! Bytes on their way into a socket that may not take them all at once.

use std::io::{ErrorKind, Write};

use anyhow::{Result, bail};

/// What is still to be written.
#[derive(Default)]
pub(crate) struct Outbox {
    /// All of it, with what is written already until the last byte is.
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Makes an empty one that `bytes` go into without another allocation.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), written: 0 }
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> Result<()> {
        while self.written < self.bytes.len() {
            match socket.write(&self.bytes[self.written..]) {
                Ok(0) => bail!("the server takes nothing any more"),
                Ok(taken) => self.written += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes.clear();
        self.written = 0;
        Ok(())
    }
}
