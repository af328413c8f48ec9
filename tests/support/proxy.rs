//! A link that fails as links do: a TCP proxy that stalls, slows down, cuts, or lets nobody in.
//!
//! Owns what happens between a hub and a server, byte by byte. It never looks at what the bytes say.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::upstream::free_listener;

/// How often a thread of the proxy looks whether the link is still as it was.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq)]
pub enum Link {
    Open,
    /// Sockets stay open, new ones are accepted, nothing moves.
    Stalled,
    /// What was open is closed, and whoever comes is closed at once.
    Cut,
    /// So many bytes a second, each way.
    Slow(u64),
}

struct Shared {
    link: Mutex<Link>,
    target: Mutex<SocketAddr>,
    halt: AtomicBool,
    accepted: AtomicU64,
    open: AtomicU64,
}

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn start(target: SocketAddr, link: Link) -> Proxy {
        let listener = free_listener();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (link, target, halt) = (Mutex::new(link), Mutex::new(target), AtomicBool::new(false));
        let shared = Arc::new(Shared { link, target, halt, accepted: AtomicU64::new(0), open: AtomicU64::new(0) });
        let for_thread = Arc::clone(&shared);
        let thread = Some(std::thread::spawn(move || for_thread.accept(&listener)));
        Proxy { address, shared, thread }
    }

    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    pub fn set(&self, link: Link) {
        *self.shared.link.lock().unwrap() = link;
    }

    /// Carries later connections to another address.
    pub fn aim(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Closes every connection once; new ones go through.
    pub fn cut_once(&self) {
        self.set(Link::Cut);
        super::wait_for("the proxy to close its connections", super::SOON, || self.shared.open.load(SeqCst) == 0);
        self.set(Link::Open);
    }

    /// Returns how many connections were accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.halt.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn link(&self) -> Link {
        if self.halt.load(SeqCst) { Link::Cut } else { *self.link.lock().unwrap() }
    }

    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        while !self.halt.load(SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => {
                    self.accepted.fetch_add(1, SeqCst);
                    self.open.fetch_add(1, SeqCst);
                    let shared = Arc::clone(self);
                    std::thread::spawn(move || {
                        shared.serve(stream);
                        shared.open.fetch_sub(1, SeqCst);
                    });
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Connects to the target once the link lets it, and carries both ways.
    fn serve(self: &Arc<Shared>, client: TcpStream) {
        while self.link() == Link::Stalled {
            std::thread::sleep(LOOK);
        }
        if self.link() == Link::Cut {
            return;
        }
        let target = *self.target.lock().unwrap();
        let Ok(server) = TcpStream::connect_timeout(&target, super::SOON) else { return };
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
        let shared = Arc::clone(self);
        let back = std::thread::spawn(move || shared.carry(server_too, client_too));
        self.carry(client, server);
        back.join().ok();
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        from.set_read_timeout(Some(LOOK)).ok();
        to.set_nodelay(true).ok();
        to.set_write_timeout(Some(super::SOON)).ok();
        let mut chunk = [0; 16 * 1024];
        loop {
            let most = match self.link() {
                Link::Cut => break,
                Link::Stalled => {
                    std::thread::sleep(LOOK);
                    continue;
                }
                Link::Open => chunk.len(),
                Link::Slow(bytes_s) => (bytes_s / 50).clamp(1, 16 * 1024) as usize,
            };
            let until = Instant::now() + Duration::from_millis(20);
            match from.read(&mut chunk[..most]) {
                Ok(0) => break,
                Ok(length) => {
                    // A link that stalls between the read and the write stalls the bytes, too.
                    while self.link() == Link::Stalled {
                        std::thread::sleep(LOOK);
                    }
                    if self.link() == Link::Cut || to.write_all(&chunk[..length]).is_err() {
                        break;
                    }
                    if matches!(self.link(), Link::Slow(_)) {
                        std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }
}
