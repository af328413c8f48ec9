//! A WebSocket client that sends exactly the frames a test asks for, right or wrong (RFC 6455).
//!
//! Owns the frames of the end-to-end tests. It never answers anything by itself, and shares no code with the hub.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::SOON;

pub const BINARY: u8 = 2;
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// Set in the first byte of a message's last frame.
const LAST: u8 = 0x80;
const MASK: [u8; 4] = [0x5A, 0, 0xFF, 0x13];

pub struct WebSocket<S> {
    pub stream: S,
}

/// Returns an upgrade request for `path`, with more header lines.
pub fn request(path: &str, headers: &[&str]) -> String {
    let mut text = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for header in headers {
        text += &format!("{header}\r\n");
    }
    text + "\r\n"
}

/// Sends an upgrade request, and returns the head of the answer.
pub fn upgrade(stream: &mut (impl Read + Write), request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, SOON).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

impl<S: Read + Write> WebSocket<S> {
    /// Upgrades with the sub-protocol `mqtt`.
    pub fn open(mut stream: S) -> WebSocket<S> {
        let head = upgrade(&mut stream, &request("/mqtt", &["Sec-WebSocket-Protocol: mqtt"])).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        WebSocket { stream }
    }

    /// Sends a whole message in one frame.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.stream.write_all(&frame(LAST | opcode, payload)).unwrap();
    }

    /// Sends a frame of a message that goes on.
    pub fn send_part(&mut self, opcode: u8, payload: &[u8]) {
        self.stream.write_all(&frame(opcode, payload)).unwrap();
    }

    /// Reads one frame: its opcode and payload.
    pub fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        assert!(head[0] & LAST != 0 && head[1] & 0x80 == 0, "a server's frames are whole and not masked");
        let mut length = u64::from(head[1]);
        if length >= 126 {
            let mut digits = [0; 8];
            let from = if length == 126 { 6 } else { 0 };
            self.stream.read_exact(&mut digits[from..])?;
            length = u64::from_be_bytes(digits);
        }
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload)?;
        Ok((head[0] & 0x0F, payload))
    }

    /// Reads bytes of binary messages, until there are as many.
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.read().unwrap() {
                (BINARY, payload) => bytes.extend(payload),
                other => panic!("a binary message was expected, not {other:?}"),
            }
        }
        assert_eq!(bytes.len(), count);
        bytes
    }

    /// Waits for the end, and returns the code of the CLOSE before it.
    pub fn expect_closed(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.read() {
                Ok((CLOSE, payload)) => code = payload.first_chunk().map(|code| u16::from_be_bytes(*code)),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the WebSocket is still open")
                }
                Err(_) => return code,
            }
        }
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Returns the head of a frame whose payload has `length` bytes, and none of them.
pub fn frame_head(opcode: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![LAST | opcode, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend(MASK);
    bytes
}
