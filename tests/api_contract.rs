//! HTTP as programs and strangers use it: the answers are as `openapi.json` says, and nothing that is sent harms the hub.
//!
//! Owns the contract of the API, hostile requests, the headers of every answer, the bound of live streams, and the users of the
//! page. What the page shows is tested in `page.rs`, a crowd of connections in `http_limits.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::health::get;
use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::station::Station;
use support::users::passwd;
use support::{Hub, PATIENTLY, SOON, Signal, Site, program, wait_for};

/// Live streams at once.
const STREAMS_MAX: usize = 32;
/// What stands in every answer of the hub's, so that a browser does nothing foolish with it.
const HEADERS: [&str; 6] = [
    "content-security-policy: default-src 'none';",
    "x-content-type-options: nosniff",
    "x-frame-options: deny",
    "referrer-policy: no-referrer",
    "cross-origin-resource-policy: same-origin",
    "cache-control: no-store",
];

/// An answer: its code, 0 where the connection was closed without one; its head, in small letters; its body.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

fn connect(hub: &Hub) -> TcpStream {
    let address: SocketAddr = hub.ready["http"].as_str().unwrap().parse().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends these bytes as they are, and reads to the end.
fn raw(hub: &Hub, request: &[u8]) -> Answer {
    let mut stream = connect(hub);
    // The hub may have answered and closed before all was sent.
    stream.write_all(request).ok();
    read_answer(stream)
}

/// Reads to the end.
fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Answer { code, head: head.to_lowercase(), body: body.to_owned() }
}

/// Asks with this method, path and lines of headers.
fn ask(hub: &Hub, method: &str, path: &str, lines: &str) -> Answer {
    raw(hub, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n").as_bytes())
}

#[test]
fn schemathesis_finds_no_answer_that_the_description_does_not_allow() {
    let Some(mut schemathesis) = program("schemathesis") else { return };
    let station = Station::with_past("");
    let hub = station.site.start();
    station.wait_summarised(&hub);
    let url = format!("http://{}/api/v1/openapi.json", hub.ready["http"].as_str().unwrap());
    schemathesis.current_dir(station.site.dir());
    schemathesis.args(["run", &url, "--seed", "3", "--max-examples", "100", "--no-color"]);
    let output = station.site.refused(schemathesis, Duration::from_secs(300));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("No issues found"), "{said}");
    assert_eq!(get(&hub, "/healthz").0, 200);
}

#[test]
fn hostile_requests_are_refused_each_by_itself_and_the_hub_goes_on() {
    let site = Site::new();
    let hub = site.start();
    let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
    sensor.publish_through(&weather_topic(1), &weather(1, 0), 1);
    let with_hosts = |hosts: &str| raw(&hub, format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n").as_bytes());
    for (hosts, code) in [
        ("", 400),
        ("Host: localhost\r\nHost: localhost\r\n", 400),
        ("Host: localhost\r\nHost: evil.example\r\n", 400),
        ("Host: evil.example\r\n", 421),
        ("Host: evil.example:8080\r\n", 421),
        ("Host: 127.0.0.1.evil.example\r\n", 421),
        ("Host: localhost@evil.example\r\n", 421),
        ("Host: \r\n", 421),
        ("Host: localhost:8080\r\n", 200),
        ("Host: [::1]:8080\r\n", 200),
        ("Host: 127.0.0.1\r\n", 200),
    ] {
        let answer = with_hosts(hosts);
        assert_eq!(answer.code, code, "{hosts:?}: {answer:?}");
    }
    assert_eq!(raw(&hub, b"GET / HTTP/1.0\r\n\r\n").code, 400);
    assert_eq!(raw(&hub, b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n").code, 421);

    let long = |length: usize| "a".repeat(length);
    for path in ["/%00", "/a%00b", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/style.css/", "/api/v1/%00"] {
        assert_eq!(ask(&hub, "GET", path, "").code, 404, "{path}");
    }
    assert_eq!(ask(&hub, "GET", &format!("/{}", long(60_000)), "").code, 404);
    assert_eq!(ask(&hub, "GET", &format!("/?range={}", long(60_000)), "").code, 400);
    for path in [format!("/{}", long(100_000)), format!("/api/v1/readings?source={}", long(100_000))] {
        assert!(matches!(ask(&hub, "GET", &path, "").code, 0 | 414), "a path of 100 KB");
    }
    let many: String = (0..1_000).map(|number| format!("X-{number}: a\r\n")).collect();
    for lines in [format!("X-Large: {}\r\n", long(1_000_000)), many, format!("{}: x\r\n", long(600_000))] {
        let code = ask(&hub, "GET", "/", &lines).code;
        assert!(matches!(code, 0 | 400 | 431), "{code} for headers of {} bytes", lines.len());
    }

    for query in [
        "range=1000y",
        "range=",
        "range=24h&range=24h",
        "range=24h%00",
        "from=99999999999999999999999",
        "from=-1",
        "to=NaN",
        "from=9223372036854775807",
        "from=2026-13-45",
        "from=%ff",
        "units=cubits",
        "unknown=1",
    ] {
        for path in ["/", "/charts", "/api/v1/readings"] {
            let answer = ask(&hub, "GET", &format!("{path}?{query}"), "");
            assert_eq!(answer.code, 400, "{path}?{query}: {answer:?}");
        }
    }
    for query in ["step=0", "step=-1", "step=1e9", "step=99999999999", "quantities=", "quantities=%27;--", "format=xml"]
    {
        let answer = ask(&hub, "GET", &format!("/api/v1/readings?{query}"), "");
        assert_eq!((answer.code, answer.head.contains("application/problem+json")), (400, true), "{query}: {answer:?}");
    }
    // Whatever somebody asks, it is bounded, and text that they send is no HTML.
    assert!(matches!(ask(&hub, "GET", "/?from=0&to=253402207200", "").code, 200 | 400));
    let answer = ask(&hub, "GET", "/?from=%3Cscript%3Ealert(1)%3C/script%3E&range=%3Cimg%20src=x%3E", "");
    assert!(
        answer.code == 400 && !answer.body.contains("<script>alert") && !answer.body.contains("<img"),
        "{answer:?}"
    );

    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        for path in ["/", "/health", "/style.css", "/healthz", "/metrics", "/api/v1/latest", "/api/v1/live"] {
            let answer = ask(&hub, method, path, "Content-Length: 0\r\n");
            assert!(answer.code == 405 && answer.head.contains("\r\nallow: get,head"), "{method} {path}: {answer:?}");
        }
        assert_eq!(ask(&hub, method, "/api/v1/alerts/store.write/acknowledge", "").code, 404, "the owner's alone");
    }
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\x10\x0c\0\x04MQTT", b"\r\n\r\n\r\n\r\n", &[0; 70_000]]
    {
        let mut stream = connect(&hub);
        stream.write_all(garbage).and_then(|()| stream.shutdown(Shutdown::Write)).ok();
        let code = read_answer(stream).code;
        assert!(code == 0 || (400..500).contains(&code), "{code} for {:?}", &garbage[..4]);
    }
    assert!(matches!(raw(&hub, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").code, 0 | 400..=499 | 505));

    sensor.publish_through(&weather_topic(1), &weather(1, 1), 1);
    assert_eq!((get(&hub, "/healthz").0, site.weather_count()), (200, 2));
    assert!(hub.said_since(0, &[" error "]).is_empty() && hub.said_since(0, &["panicked"]).is_empty());
    assert!(hub.stop().success());
}

#[test]
fn every_answer_has_the_security_headers_and_none_lets_another_origin_read_it() {
    let site = Site::new();
    let hub = site.start();
    let origin = "Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n";
    for (method, path, code) in [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/extremes", 200),
        ("GET", "/health", 200),
        ("GET", "/style.css", 200),
        ("GET", "/live.js", 200),
        ("GET", "/favicon.svg", 200),
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("GET", "/api/v1/latest", 200),
        ("GET", "/api/v1/openapi.json", 200),
        ("GET", "/?range=never", 400),
        ("GET", "/api/v1/readings?range=never", 400),
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/nowhere", 404),
        ("POST", "/", 405),
        ("OPTIONS", "/api/v1/latest", 405),
    ] {
        let answer = ask(&hub, method, path, origin);
        assert_eq!(answer.code, code, "{method} {path}: {answer:?}");
        for header in HEADERS {
            assert!(answer.head.contains(header), "{method} {path} lacks {header}: {}", answer.head);
        }
        assert!(!answer.head.contains("access-control-"), "{method} {path}: {}", answer.head);
        let is_problem = answer.head.contains("content-type: application/problem+json");
        assert_eq!(is_problem, path.starts_with("/api/") && code >= 400, "{method} {path}: {}", answer.head);
    }
    let misdirected = raw(&hub, b"GET /api/v1/latest HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(misdirected.code, 421);
    assert!(HEADERS.iter().all(|header| misdirected.head.contains(header)), "{}", misdirected.head);
}

#[test]
fn live_streams_are_bounded_and_one_that_ends_makes_room() {
    let site = Site::new();
    let hub = site.start();
    let listen = || {
        let mut stream = connect(&hub);
        stream.write_all(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        let mut some = [0; 4_096];
        // A stream is there once it has said something, an answer without one once it has its end.
        while !bytes.windows(2).any(|end| end == b"\n\n" || end == b"}\r") && !bytes.ends_with(b"}") {
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "closed after {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&some[..count]);
        }
        (stream, String::from_utf8_lossy(&bytes).to_lowercase())
    };
    let mut streams = Vec::new();
    for number in 0..STREAMS_MAX {
        let (stream, said) = listen();
        assert!(said.starts_with("http/1.1 200 ") && said.contains("text/event-stream"), "{number}: {said}");
        streams.push(stream);
    }
    let (_, said) = listen();
    assert!(said.starts_with("http/1.1 503 ") && said.contains("application/problem+json"), "{said}");
    assert_eq!(get(&hub, "/").0, 200, "the page itself is for everybody");
    drop(streams.pop());
    wait_for("room for another", PATIENTLY, || listen().1.starts_with("http/1.1 200 "));
    assert!(hub.stop().success(), "open streams do not hold up the end");
}

#[test]
fn users_log_in_where_others_can_reach_the_page_and_their_file_is_read_anew_on_sighup() {
    let site = Site::with_config("[http]\nusers = \"page-users\"\n");
    let file = site.file("page-users");
    let file = file.to_str().unwrap();
    let add = |name: &str, password: &str| {
        let output = passwd(&site, &["add", name, "--file", file], &format!("{password}\n"));
        assert!(output.status.success(), "{output:?}");
    };
    add("anna", "wind:und:wetter");
    let hub = site.start_with(site.run_command_with_http("0.0.0.0:0"));
    let login = |login: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(login));
    let code = |credentials: &str| ask(&hub, "GET", "/", &login(credentials)).code;
    for path in ["/", "/health", "/style.css", "/metrics", "/healthz", "/api/v1/latest", "/api/v1/live", "/nowhere"] {
        let answer = ask(&hub, "GET", path, "");
        assert_eq!(answer.code, 401, "{path}: {answer:?}");
        assert!(answer.head.contains("www-authenticate: basic realm=\"stationhub\""), "{path}: {}", answer.head);
        assert!(HEADERS.iter().all(|header| answer.head.contains(header)), "{path}: {}", answer.head);
    }
    for path in ["/", "/metrics", "/api/v1/latest"] {
        assert_eq!(ask(&hub, "GET", path, &login("anna:wind:und:wetter")).code, 200, "{path}");
    }
    assert_eq!((code("anna:wrong"), code("anna:"), code("boris:wind:und:wetter")), (401, 401, 401));
    assert_eq!(ask(&hub, "GET", "/", "Authorization: Bearer x\r\n").code, 401);

    add("boris", "hagel");
    assert!(passwd(&site, &["remove", "anna", "--file", file], "").status.success());
    assert_eq!((code("anna:wind:und:wetter"), code("boris:hagel")), (200, 401), "nobody has said so yet");
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["the page's users"], SOON);
    assert_eq!((code("anna:wind:und:wetter"), code("boris:hagel")), (401, 200));
    // A broken file changes nothing.
    let mark = hub.log_end();
    std::fs::write(file, "boris:hagel\n").unwrap();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &[" error ", "page-users"], SOON);
    assert_eq!(code("boris:hagel"), 200);
    assert!(!hub.log().contains("hagel") && !hub.log().contains("wetter"), "a password is in the log");
    assert!(hub.stop().success());
}

#[test]
fn on_loopback_nobody_is_asked_who_they_are() {
    let site = Site::with_config("[http]\nusers = \"page-users\"\n");
    let file = site.file("page-users");
    assert!(passwd(&site, &["add", "anna", "--file", file.to_str().unwrap()], "x\n").status.success());
    let hub = site.start();
    assert_eq!((ask(&hub, "GET", "/", "").code, ask(&hub, "GET", "/", "Authorization: nonsense\r\n").code), (200, 200));
}
