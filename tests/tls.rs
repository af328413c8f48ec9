//! TLS listeners: who is let in, how long a handshake may take, and certificates that change while the hub serves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use support::mqtt::{Connect, publish};
use support::packet::packet;
use support::sensor::weather;
use support::tls::{Authority, address, connect, expect_closed, open, over, ping, site};
use support::websocket::{BINARY, WebSocket};
use support::{Hub, PATIENTLY, SOON, Signal, Site, program, wait_for};

const TOPIC: &str = "backacres/house/weatherstation/weathermeters/";

/// Returns a mosquitto client that trusts the site's authority.
fn mosquitto(name: &str, site: &Site, port: u16) -> Option<Command> {
    let mut command = program(name)?;
    command.args(["-h", "localhost", "-p", &port.to_string(), "--cafile"]).arg(site.file("ca.pem"));
    command.stdin(Stdio::null());
    Some(command)
}

fn run(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

#[test]
fn mosquitto_publishes_over_tls_and_returns_when_its_reading_is_stored() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let port = address(&hub, "tls").port();
    for (rows, version) in [(1, "tlsv1.2"), (2, "tlsv1.3")] {
        let Some(mut publish) = mosquitto("mosquitto_pub", &site, port) else {
            return;
        };
        let reading = String::from_utf8(weather(1, rows)).unwrap();
        publish.args(["--tls-version", version, "-t", TOPIC, "-q", "2", "-m", &reading]);
        run(publish);
        assert_eq!(site.weather_count(), rows as i64, "{version}");
    }
    let mut publish = mosquitto("mosquitto_pub", &site, port).unwrap();
    publish.args(["-t", "house/lamp", "-q", "1", "-r", "-m", "on"]);
    run(publish);
    let mut subscribe = mosquitto("mosquitto_sub", &site, port).unwrap();
    subscribe.args(["-t", "house/#", "-q", "1", "-C", "1", "-W", "30"]);
    assert_eq!(run(subscribe).stdout, b"on\n");
}

#[test]
fn clients_that_know_tls_1_2_alone_and_1_3_alone_are_both_served() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    let hub = site.start();
    for (version, name) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
        let mut stream = open(address(&hub, "tls"), &authority.client(None, &[version]));
        connect(&mut stream, name).unwrap();
        assert_eq!(format!("{:?}", stream.conn.protocol_version().unwrap()), name);
        stream.write_all(&publish(4, TOPIC.as_bytes(), &weather(1, 1), 1, 7, false)).unwrap();
        let mut ack = [0; 4];
        stream.read_exact(&mut ack).unwrap();
        assert_eq!(ack, [0x40, 2, 0, 7]);
    }
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_is_not_let_in() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let site = site(&authority, 10_000);
    let hub = site.start();
    let place = address(&hub, "certified");
    for version in [&TLS12, &TLS13] {
        let known = authority.issue("sensor–1");
        let mut stream = open(place, &authority.client(Some(&known), &[version]));
        connect(&mut stream, "known").unwrap();
        ping(&mut stream);
        let unknown = stranger.issue("sensor-2");
        let old = authority.issue_with("sensor-3", |params| params.not_after = rcgen::date_time_ymd(2002, 1, 1));
        for (identity, why) in [(None, "none"), (Some(&unknown), "another authority's"), (Some(&old), "expired")] {
            let mut stream = open(place, &authority.client(identity, &[version]));
            assert!(connect(&mut stream, "stranger").is_err(), "let in with {why}");
        }
    }
    hub.wait_said(0, &["has shown a certificate", "known", "sensor–1"], SOON);
    hub.wait_said(0, &["certified (TLS)", "the TLS handshake failed"], SOON);
    // Where no certificate is asked for, none is needed, and one that is shown all the same does no harm.
    let mut stream = open(address(&hub, "tls"), &authority.client(Some(&stranger.issue("x")), ALL_VERSIONS));
    connect(&mut stream, "anybody").unwrap();
}

#[test]
fn mosquitto_shows_its_certificate() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    let hub = site.start();
    let sensor = authority.issue("sensor");
    fs::write(site.file("sensor.pem"), &sensor.certificate).unwrap();
    fs::write(site.file("sensor.key"), &sensor.key).unwrap();
    let publish = || {
        let mut command = mosquitto("mosquitto_pub", &site, address(&hub, "certified").port())?;
        command.args(["-t", TOPIC, "-q", "1", "-m", &String::from_utf8(weather(1, 1)).unwrap()]);
        Some(command)
    };
    let Some(mut without) = publish() else {
        return;
    };
    assert!(!without.output().unwrap().status.success());
    let mut with = publish().unwrap();
    with.arg("--cert").arg(site.file("sensor.pem")).arg("--key").arg(site.file("sensor.key"));
    run(with);
    assert_eq!(site.weather_count(), 1);
}

#[test]
fn certificates_are_read_anew_on_sighup_under_running_connections() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let site = site(&before, 10_000);
    let mut hub = site.start();
    let place = address(&hub, "tls");
    let mut running = open(place, &before.client(None, ALL_VERSIONS));
    connect(&mut running, "running").unwrap();

    after.issue("hub").write(&site);
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    // "tls", "certified" and "wss" have certificates.
    wait_for("three lines", SOON, || hub.said_since(mark, &["INFO", "read anew", "certificates"]).len() == 3);
    let mut fresh = open(place, &after.client(None, ALL_VERSIONS));
    connect(&mut fresh, "fresh").unwrap();
    assert!(connect(&mut open(place, &before.client(None, ALL_VERSIONS)), "late").is_err(), "the old one is served");
    ping(&mut running);

    // A key that is not the certificate's, then a certificate that is half written: what was read before stays.
    fs::write(site.file("hub.key"), before.issue("other").key).unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    wait_for("an error for each listener", SOON, || {
        hub.said_since(mark, &["ERROR", "hub.key is not the key of", "stays in force"]).len() == 3
    });
    fs::write(site.file("hub.pem"), "-----BEGIN CERT").unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["ERROR", "\"wss\"", "hub.pem", "stays in force"], SOON);
    connect(&mut open(place, &after.client(None, ALL_VERSIONS)), "later").unwrap();
    ping(&mut running);
    ping(&mut fresh);
    assert!(hub.is_running());
    assert!(hub.stop().success());
}

#[test]
fn authorities_of_clients_are_read_anew_too() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let site = site(&before, 10_000);
    let hub = site.start();
    let place = address(&hub, "certified");
    let mut running = open(place, &before.client(Some(&before.issue("old")), ALL_VERSIONS));
    connect(&mut running, "old").unwrap();
    // The very settings of that client, which remembers its TLS session, too.
    let remembering = before.client(Some(&before.issue("old")), ALL_VERSIONS);
    connect(&mut open(place, &remembering), "old-2").unwrap();
    fs::write(site.file("ca.pem"), after.pem()).unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["read anew", "\"certified\""], SOON);
    assert!(connect(&mut open(place, &remembering), "old-3").is_err(), "a session by the old authority is resumed");
    connect(&mut open(place, &before.client(Some(&after.issue("new")), ALL_VERSIONS)), "new").unwrap();
    ping(&mut running);
}

#[test]
fn sighup_without_anything_to_read_anew_changes_nothing() {
    let site = Site::new();
    let mut hub = site.start();
    let mut client = Connect::new(4, "client").open(hub.mqtt);
    for _ in 0..3 {
        let mark = hub.log_end();
        hub.signal(Signal::HUP);
        hub.wait_said(mark, &["SIGHUP", "nothing"], SOON);
    }
    client.ping();
    assert!(hub.is_running());
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    authority.issue_with("hub", |params| params.not_after = rcgen::date_time_ymd(2002, 1, 1)).write(&site);
    let hub = site.start();
    hub.wait_said(0, &["WARN", "hub.pem", "expired on 2002-01-01"], SOON);
    let output = site.command("check").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("warning: "), "{output:?}");
}

#[test]
fn a_broken_certificate_ends_the_start_with_file_and_reason() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    fs::write(site.file("hub.key"), authority.issue("other").key).unwrap();
    for command in [site.command("check"), site.run_command()] {
        let output = site.refused(command, SOON);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("v4.2.tls.keypath: ") && said.contains("hub.key is not the key of"), "{said}");
        assert!(said.contains("ws.2.tls.keypath: "), "all at once: {said}");
    }
}

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
    for round in 0..12 {
        let payload = vec![b'x'; 20_011 + 1_000 * round];
        for _ in 0..250 {
            publisher.publish("big", &payload, 0, 0, false);
        }
        publisher.ping();
        let expected = publish(4, b"big", &payload, 0, 0, false);
        let mut received = vec![0; expected.len()];
        for message in 0..250 {
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

/// Subscribes, publishes at each QoS, and waits for what comes back.
const PAHO: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
port, version, ca = int(sys.argv[1]), sys.argv[2], sys.argv[3]
client = mqtt.Client(client_id="paho" + version, protocol=mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311)
client.tls_set(ca_certs=ca)
subscribed, received, got = threading.Event(), threading.Event(), []
client.on_connect = lambda c, *rest: c.subscribe([("echo/#", 2)])
client.on_subscribe = lambda *rest: subscribed.set()
def on_message(c, userdata, message):
    got.append((message.topic, message.payload, message.qos))
    if len(got) == 3:
        received.set()
client.on_message = on_message
client.connect("localhost", port, keepalive=5)
client.loop_start()
assert subscribed.wait(20), "no SUBACK"
for qos in (0, 1, 2):
    client.publish("echo/%d" % qos, b"%d" % qos * 9000, qos).wait_for_publish(20)
assert received.wait(20), got
assert sorted(got) == [("echo/%d" % qos, b"%d" % qos * 9000, qos) for qos in (0, 1, 2)], got
client.disconnect()
client.loop_stop()
print("done")
"#;

#[test]
fn paho_for_python_speaks_over_tls() {
    let Some(mut probe) = program("python3") else {
        return;
    };
    if !probe.args(["-c", "import paho.mqtt.client"]).output().unwrap().status.success() {
        return support::skip("python3 has no paho-mqtt", true);
    }
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    fs::write(site.file("client.py"), PAHO).unwrap();
    for version in ["4", "5"] {
        let mut python = program("python3").unwrap();
        python.arg(site.file("client.py")).args([&address(&hub, "tls").port().to_string(), version]);
        python.arg(site.file("ca.pem"));
        assert_eq!(String::from_utf8_lossy(&run(python).stdout), "done\n");
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
