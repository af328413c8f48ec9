//! Weather networks: a server of HTTP and one of APRS-IS, which answer as they are told.
//!
//! Owns real sockets, and remembers when each request came, what it was and whether it was taken.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

use super::{SOON, wait_for};

/// What a network heard.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Instant,
    /// The request line with its headers, or the packet with the login before it.
    pub lines: Vec<String>,
    pub is_taken: bool,
}

impl Heard {
    /// Returns a field of the request's query.
    pub fn field(&self, name: &str) -> Option<String> {
        let path = self.lines[0].split(' ').nth(1)?;
        let pairs = path.split_once('?')?.1.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.into_iter().find(|(key, _)| *key == name)?.1;
        Some(percent_decode_str(&found.replace('+', " ")).decode_utf8().unwrap().into_owned())
    }

    /// Returns the time that the request is about, Unix seconds.
    pub fn slot_s(&self) -> i64 {
        let text = self.field("dateutc").or_else(|| self.field("time")).unwrap();
        let text = text.replace(' ', "T");
        format!("{}Z", text.trim_end_matches('Z')).parse::<jiff::Timestamp>().unwrap().as_second()
    }
}

/// A network; its threads end with the test.
pub struct Network {
    pub address: SocketAddr,
    /// Status and body of every answer; of APRS-IS the body is the answer to the login.
    answer: Arc<Mutex<(u16, String)>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Network {
    pub fn http(status: u16, body: &str) -> Network {
        Network::serve(status, body, answer_http)
    }

    pub fn aprs() -> Network {
        Network::serve(200, "# logresp CW0007 unverified, server TEST", answer_aprs)
    }

    fn serve(status: u16, body: &str, serve: fn(TcpStream, (u16, String)) -> Option<Heard>) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Network {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new((status, body.to_owned()))),
            heard: Arc::default(),
        };
        let (answer, heard) = (network.answer.clone(), network.heard.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(SOON)).unwrap();
                let now = answer.lock().unwrap().clone();
                let found = serve(stream, now);
                heard.lock().unwrap().extend(found);
            }
        });
        network
    }

    pub fn answers(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn taken(&self) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.is_taken).collect()
    }

    pub fn wait_taken(&self, count: usize, within: Duration) {
        wait_for(&format!("{count} observations"), within, || self.taken().len() >= count);
    }

    pub fn wait_heard(&self, count: usize, within: Duration) {
        wait_for(&format!("{count} attempts"), within, || self.heard().len() >= count);
    }
}

fn answer_http(stream: TcpStream, (status, body): (u16, String)) -> Option<Heard> {
    let mut lines = Vec::new();
    for line in BufReader::new(&stream).lines() {
        match line.ok()? {
            line if line.is_empty() => break,
            line => lines.push(line),
        }
    }
    lines.first()?;
    // Noted before it is answered: what the hub does next may be looked at together with it.
    let heard = Heard { at: Instant::now(), lines, is_taken: status < 300 && !body.contains("INVALID") };
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    (&stream).write_all(text.as_bytes()).ok()?;
    Some(heard)
}

fn answer_aprs(mut stream: TcpStream, (_, answer): (u16, String)) -> Option<Heard> {
    stream.write_all(b"# test server of APRS-IS\r\n").ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = [String::new(), String::new()];
    reader.read_line(&mut lines[0]).ok()?;
    stream.write_all(format!("# a word on the way\r\n{answer}\r\n").as_bytes()).ok()?;
    reader.read_line(&mut lines[1]).ok()?;
    let lines: Vec<String> = lines.iter().map(|line| line.trim_end().to_owned()).collect();
    Some(Heard { at: Instant::now(), is_taken: !lines[1].is_empty(), lines })
}
