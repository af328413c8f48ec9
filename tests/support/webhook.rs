//! An HTTP server that takes alerts, fails and hangs as it is told.
//!
//! Owns real sockets and HTTP/1.1 as far as one request goes. It remembers the requests that it answered with 200.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::tls::Identity;
use super::{SOON, wait_for};

/// What the server does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Takes,
    /// Answers 500.
    Fails,
    /// Reads, and never answers.
    Hangs,
    /// Answers 400 to a body that has more bytes, and repeats what it was asked.
    TakesUpTo(usize),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
    pub body: String,
}

/// The server; its threads end with the test.
pub struct Webhook {
    pub address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    taken: Arc<Mutex<Vec<Request>>>,
    tried: Arc<Mutex<usize>>,
}

impl Webhook {
    pub fn start(mood: Mood) -> Webhook {
        Webhook::serve(mood, None)
    }

    /// Starts a server that takes everything, over TLS.
    pub fn start_tls(identity: &Identity) -> Webhook {
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Webhook::serve(Mood::Takes, Some(Arc::new(config)))
    }

    fn serve(mood: Mood, tls: Option<Arc<ServerConfig>>) -> Webhook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hook = Webhook {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(mood)),
            taken: Arc::default(),
            tried: Arc::default(),
        };
        let (mood, taken, tried) = (hook.mood.clone(), hook.taken.clone(), hook.tried.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mood, taken, tried) = (mood.clone(), taken.clone(), tried.clone());
                let tls = tls.clone();
                thread::spawn(move || {
                    stream.set_read_timeout(Some(SOON)).unwrap();
                    match tls {
                        None => answer(stream, &mood, &taken, &tried),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).unwrap();
                            answer(StreamOwned::new(connection, stream), &mood, &taken, &tried);
                        }
                    }
                });
            }
        });
        hook
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn is_now(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub fn taken(&self) -> Vec<Request> {
        self.taken.lock().unwrap().clone()
    }

    pub fn tried(&self) -> usize {
        *self.tried.lock().unwrap()
    }

    /// Returns the ids of all messages that were taken, one for each notice, in order.
    pub fn ids(&self) -> Vec<String> {
        let bodies = self.taken().into_iter().map(|request| request.body);
        bodies
            .flat_map(|body| {
                let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
                json["id"].as_str().unwrap().split(',').map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Waits until so many requests were tried.
    pub fn wait_tried(&self, count: usize, within: Duration) {
        wait_for(&format!("{count} requests"), within, || self.tried() >= count);
    }
}

fn answer(mut stream: impl Read + Write, mood: &Mutex<Mood>, taken: &Mutex<Vec<Request>>, tried: &Mutex<usize>) {
    let Some(request) = read(&mut BufReader::new(&mut stream)) else { return };
    *tried.lock().unwrap() += 1;
    let mood = *mood.lock().unwrap();
    let mut is_taken = mood == Mood::Takes;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned();
    let answer = match mood {
        Mood::Takes => ok,
        Mood::TakesUpTo(bytes) if request.body.len() <= bytes => {
            is_taken = true;
            ok
        }
        Mood::TakesUpTo(_) => {
            let said = format!("too long: {} {}", request.line, request.headers.join(" "));
            format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{said}", said.len())
        }
        Mood::Fails => "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nbusy".to_owned(),
        Mood::Hangs => {
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    if is_taken {
        taken.lock().unwrap().push(request);
    }
    let _ = stream.write_all(answer.as_bytes());
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mut lines = lines.into_iter();
    Some(Request { line: lines.next()?, headers: lines.collect(), body: String::from_utf8(body).ok()? })
}
