//! Peers of TLS listeners that stall, drip, send garbage or read slowly: what they cost, and whom.
//!
//! Owns the proof that a handshake is its own peer's business alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ALL_VERSIONS;
use support::mqtt::{Connect, publish};
use support::packet::packet;
use support::tls::{Authority, address, connect, expect_closed, open, over, ping, site};
use support::websocket::{BINARY, WebSocket};
use support::{Hub, PATIENTLY, SOON, wait_for};

/// Lets this process have as many files as it may.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Returns the first bytes that a client sends: a whole ClientHello.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let config = std::sync::Arc::new(authority.client(None, ALL_VERSIONS));
    let mut hello = Vec::new();
    rustls::ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// Connects from another address of this machine's, as another machine would.
fn from_elsewhere(place: SocketAddr) -> TcpStream {
    let fd: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    rustix::net::connect(&fd, &place).unwrap();
    TcpStream::from(fd)
}

/// Connects, and returns how long it took from the socket to the CONNACK.
fn time_to_connect(authority: &Authority, stream: impl FnOnce() -> TcpStream, id: &str) -> Duration {
    let config = authority.client(None, ALL_VERSIONS);
    let begun = Instant::now();
    let mut stream = over(stream(), &config);
    connect(&mut stream, id).unwrap_or_else(|error| panic!("{id}: {error}"));
    begun.elapsed()
}

/// Tells whether the peer has not closed the connection yet.
fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_thousand_stalled_handshakes_do_not_delay_a_client_beyond_a_second() {
    allow_many_files();
    let authority = Authority::new("authority");
    let site = site(&authority, 60_000);
    let hub = site.start();
    let place = address(&hub, "tls");
    let hello = client_hello(&authority);
    let mut steady = Connect::new(4, "steady").open(hub.mqtt);
    let stalled = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let mut sockets = Vec::new();
            for number in 0..1000 {
                let mut socket = TcpStream::connect_timeout(&place, SOON).unwrap();
                // Silent; half a ClientHello; a whole one, whose answer is never read. One may have been closed.
                let said: &[u8] = [&[], &hello[..hello.len() / 2], &hello][number % 3];
                socket.write_all(said).ok();
                sockets.push(socket);
            }
            stalled.store(true, Ordering::Release);
            sockets
        });
        // While the crowd arrives, and once it is all there.
        let mut number = 0;
        while !stalled.load(Ordering::Acquire) || number < 20 {
            slowest = slowest.max(time_to_connect(&authority, || from_elsewhere(place), &format!("good-{number}")));
            number += 1;
        }
        let mut sockets = crowd.join().unwrap();
        assert_eq!(sockets.len(), 1000);
        // They cost no more than `broker.limits.connections_pending` allows.
        wait_for("the oldest to make room", SOON, || {
            sockets.retain_mut(is_open);
            sockets.len() <= 256
        });
        for number in 0..20 {
            let here = || TcpStream::connect_timeout(&place, SOON).unwrap();
            slowest = slowest.max(time_to_connect(&authority, here, &format!("near-{number}")));
        }
        steady.ping();
    });
    println!("slowest CONNECT beside 1,000 stalled handshakes: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn a_handshake_that_drips_ends_at_the_deadline_of_the_connect() {
    let authority = Authority::new("authority");
    let site = site(&authority, 3_000);
    let hub = site.start();
    let place = address(&hub, "tls");
    let begun = Instant::now();
    let mut dripping = TcpStream::connect_timeout(&place, SOON).unwrap();
    dripping.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut closed = false;
    // A byte every 20 ms: a whole ClientHello takes longer than the deadline.
    for byte in client_hello(&authority) {
        let mut answer = [0];
        closed = dripping.write_all(&[byte]).is_err() || dripping.read(&mut answer).is_ok_and(|length| length == 0);
        if closed {
            break;
        }
    }
    assert!(closed, "the handshake was not ended");
    assert!((2_900..4_500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    hub.wait_said(0, &["tls (TLS)", "no TLS handshake within 3s"], SOON);

    // A handshake that takes two thirds of the time leaves a third for the CONNECT.
    let begun = Instant::now();
    let mut silent = open(place, &authority.client(None, ALL_VERSIONS));
    wait_for("two of three seconds", SOON, || begun.elapsed() > Duration::from_secs(2));
    while silent.conn.is_handshaking() {
        silent.conn.complete_io(&mut silent.sock).unwrap();
    }
    expect_closed(&mut silent);
    assert!((2_900..4_500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    hub.wait_said(0, &["tls (TLS)", "no CONNECT within 3s"], SOON);
}

#[test]
fn plain_mqtt_and_garbage_on_a_tls_listener_harm_nobody() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    let hub = site.start();
    let place = address(&hub, "tls");
    let mut steady = open(place, &authority.client(None, ALL_VERSIONS));
    connect(&mut steady, "steady").unwrap();
    let hello = client_hello(&authority);
    for bytes in [Connect::new(4, "plain").bytes(), b"GET / HTTP/1.1\r\n\r\n".to_vec(), hello.repeat(3), vec![0; 5000]]
    {
        let mut stream = TcpStream::connect_timeout(&place, SOON).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&bytes).unwrap();
        expect_closed(&mut stream);
        ping(&mut steady);
    }
    hub.wait_said(0, &["tls (TLS)", "the TLS handshake failed"], SOON);
    // Bytes that are no TLS record, inside a connection that has begun.
    let mut broken = open(place, &authority.client(None, ALL_VERSIONS));
    connect(&mut broken, "broken").unwrap();
    broken.sock.write_all(&[23, 3, 3, 0, 40]).unwrap();
    broken.sock.write_all(&[7; 40]).unwrap();
    expect_closed(&mut broken.sock);
    hub.wait_said(0, &["broken", "a client was disconnected"], SOON);
    ping(&mut steady);
}

#[test]
fn the_last_bytes_for_a_slow_subscriber_do_not_wait_inside_tls_or_websocket() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    let limits = "[broker.limits]\nsession_queue_bytes = 67108864\nsession_queue_messages = 100000\n";
    fs::write(site.file("hub.toml"), limits).unwrap();
    let hub = site.start();
    let encrypted = |name| over(narrow(address(&hub, name)), &authority.client(None, ALL_VERSIONS));
    take_all_in_the_end(&hub, encrypted("tls"));
    take_all_in_the_end(&hub, Messages::open(narrow(address(&hub, "ws"))));
    take_all_in_the_end(&hub, Messages::open(encrypted("wss")));
}

/// Connects with a receive buffer so small that the hub's socket is full most of the time.
fn narrow(place: SocketAddr) -> TcpStream {
    let fd: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_recv_buffer_size(&fd, 4096).unwrap();
    rustix::net::connect(&fd, &place).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Subscribes, lets more messages come than the socket takes, and reads them to the last byte, a few times over.
fn take_all_in_the_end(hub: &Hub, mut slow: impl Read + Write) {
    connect(&mut slow, "slow").unwrap();
    slow.write_all(&packet(0x82, b"\x00\x01\x00\x03big\x00")).unwrap();
    let mut ack = [0; 5];
    slow.read_exact(&mut ack).unwrap();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for round in 0..16 {
        let payload = vec![b'x'; 20_011 + 1_000 * round];
        for _ in 0..130 {
            publisher.publish("big", &payload, 0, 0, false);
        }
        publisher.ping();
        let expected = publish(4, b"big", &payload, 0, 0, false);
        let mut received = vec![0; expected.len()];
        for message in 0..130 {
            slow.read_exact(&mut received).unwrap_or_else(|error| panic!("{round}, {message}: {error}"));
            assert!(received == expected);
        }
    }
}

/// A WebSocket's binary messages as a stream of bytes.
struct Messages<S> {
    client: WebSocket<S>,
    unread: VecDeque<u8>,
}

impl<S: Read + Write> Messages<S> {
    fn open(stream: S) -> Messages<S> {
        Messages { client: WebSocket::open(stream), unread: VecDeque::new() }
    }
}

impl<S: Read + Write> Read for Messages<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            self.unread.extend(self.client.read()?.1);
        }
        self.unread.read(buffer)
    }
}

impl<S: Read + Write> Write for Messages<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.client.send(BINARY, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_hub_with_tls_connections_stops_in_time_and_says_so_to_them() {
    let authority = Authority::new("authority");
    let site = site(&authority, 60_000);
    let hub: Hub = site.start();
    let place = address(&hub, "tls");
    let mut client = open(place, &authority.client(None, ALL_VERSIONS));
    connect(&mut client, "client").unwrap();
    let mut half = TcpStream::connect_timeout(&place, SOON).unwrap();
    half.write_all(&client_hello(&authority)[..20]).unwrap();
    half.set_read_timeout(Some(PATIENTLY)).unwrap();
    let begun = Instant::now();
    assert!(hub.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("TLS is closed as it should be, not cut off");
    expect_closed(&mut half);
}
