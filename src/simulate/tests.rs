//! Tests of the simulation against a broker of a few lines, which acks as each test wants.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{Options, SimulateError, run};

fn options(port: u16, qos: u8, count: Option<u64>) -> Options {
    Options {
        broker: format!("127.0.0.1:{port}").parse().unwrap(),
        topic: "a/b/".parse().unwrap(),
        interval: Duration::from_millis(1),
        qos,
        count,
        seed: 1,
        login: None,
    }
}

async fn broker() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads one packet: its first byte and its body; `None` when the client has gone.
async fn packet(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let first = socket.read_u8().await.ok()?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = socket.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

/// Serves one connection: acks at most `acks` publishes, then goes. Returns what was published, and the last packet.
async fn serve(listener: &TcpListener, acks: usize) -> (Vec<(String, String)>, u8) {
    let (mut socket, _) = listener.accept().await.unwrap();
    assert_eq!(packet(&mut socket).await.unwrap().0, 0x10);
    socket.write_all(&[0x20, 2, 0, 0]).await.unwrap();
    let (mut published, mut acked, mut last) = (Vec::new(), 0, 0);
    while let Some((first, body)) = packet(&mut socket).await {
        last = first;
        let reply = match first & 0xf0 {
            0x30 => {
                let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let id_bytes = if first & 0x06 == 0 { 0 } else { 2 };
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                published.push((text(&body[2..topic_end]), text(&body[topic_end + id_bytes..])));
                if acked == acks {
                    break;
                }
                acked += 1;
                match first & 0x06 {
                    0 => Vec::new(),
                    2 => vec![0x40, 2, body[topic_end], body[topic_end + 1]],
                    _ => vec![0x50, 2, body[topic_end], body[topic_end + 1]],
                }
            }
            0x60 => vec![0x70, 2, body[0], body[1]],
            _ => Vec::new(),
        };
        socket.write_all(&reply).await.unwrap();
    }
    (published, last)
}

#[tokio::test]
async fn ends_after_its_count_at_every_quality_of_service() {
    for qos in 0..=2 {
        let (listener, port) = broker().await;
        let (result, (published, last)) =
            tokio::join!(run(options(port, qos, Some(100)), CancellationToken::new()), serve(&listener, usize::MAX));
        result.unwrap();
        assert_eq!(published.len(), 200, "QoS {qos}");
        assert_eq!(published[0].0, "a/b/weathermeters/");
        assert_eq!(published[1].0, "a/b/magneticfluxsensor/");
        assert_eq!(last, 0xe0, "says goodbye");
    }
}

#[tokio::test]
async fn what_was_not_acked_goes_again_over_the_next_connection() {
    for qos in 1..=2 {
        let (listener, port) = broker().await;
        let both = async { (serve(&listener, 7).await.0, serve(&listener, usize::MAX).await.0) };
        let (result, (before, after)) =
            tokio::join!(run(options(port, qos, Some(100)), CancellationToken::new()), both);
        result.unwrap();
        // A broken connection may swallow acks, never add one.
        let acked = 200 - after.len();
        assert!(acked <= 7 && before.len() >= 8, "QoS {qos}: {acked} of {}", before.len());
        assert_eq!(before[acked..], after[..before.len() - acked], "QoS {qos}: in their order");
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_a_clear_error() {
    let (listener, port) = broker().await;
    drop(listener);
    let error = run(options(port, 0, None), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, SimulateError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("Cannot reach the broker at 127.0.0.1:{port}: ")), "{text}");
    assert!(text.contains("--broker"));
}

#[tokio::test]
async fn shutdown_ends_an_endless_simulation() {
    let (listener, port) = broker().await;
    let shutdown = CancellationToken::new();
    let stop = async {
        let served = serve(&listener, usize::MAX);
        tokio::pin!(served);
        tokio::select! {
            _ = &mut served => panic!("ended by itself"),
            () = tokio::time::sleep(Duration::from_millis(50)) => shutdown.cancel(),
        }
        served.await
    };
    let (result, (_, last)) = tokio::join!(run(options(port, 1, None), shutdown.clone()), stop);
    result.unwrap();
    assert_eq!(last, 0xe0);
}

#[test]
fn broker_addresses_and_topics_are_checked() {
    use super::{BrokerAddress, TopicPrefix};
    let shown = |text: &str| text.parse::<BrokerAddress>().map(|address| address.to_string());
    assert_eq!(shown("pi"), Ok("pi:1883".to_owned()));
    assert_eq!(shown("pi.local:1"), Ok("pi.local:1".to_owned()));
    assert_eq!(shown("[::1]"), Ok("[::1]:1883".to_owned()));
    assert_eq!(shown("[::1]:7"), Ok("[::1]:7".to_owned()));
    for wrong in ["", ":1883", "::1", "pi:0", "pi:x", "mqtt://pi", "a b"] {
        assert!(shown(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "/", "a/+", "#"] {
        assert!(wrong.parse::<TopicPrefix>().is_err(), "{wrong}");
    }
}
