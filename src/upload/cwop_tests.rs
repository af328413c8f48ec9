//! Tests of packets, against published ones, and of the conversation.
#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const MPH: f64 = 0.447_04;
const HUNDREDTH: f64 = 0.254;

fn fahrenheit(degrees: f64) -> Option<f64> {
    Some((degrees - 32.0) / 1.8)
}

/// "APRS Protocol Reference", version 1.0.1, chapter 12, "Complete Weather Report Format — with Lat/Long position and
/// Timestamp": `@092345z4903.50N/07201.75W_220/004g005t-07r000p000P000h50b09900wRSW`.
#[test]
fn the_example_of_the_protocols_reference_comes_out() {
    let bulletin = Bulletin {
        at_s: 9 * 86_400 - 86_400 + 23 * 3_600 + 45 * 60,
        direction: Some(220.0),
        wind: Some(4.0 * MPH),
        gust: Some(5.0 * MPH),
        temperature: fahrenheit(-7.0),
        rain_hour: Some(0.0),
        rain_day: Some(0.0),
        rain_today: Some(0.0),
        humidity: Some(50.0),
        pressure: Some(990.0),
        ..Bulletin::default()
    };
    let place = (49.0 + 3.5 / 60.0, -(72.0 + 1.75 / 60.0));
    assert_eq!(
        packet("CW1234", place, &bulletin),
        "CW1234>APRS,TCPIP*:@092345z4903.50N/07201.75W_220/004g005t-07r000p000P000h50b09900.stationhub"
    );
}

/// "How APRS/CWOP data gets in", Philip Gladstone, pond1.gladstonefamily.net/aprswxnet.html:
/// `CW0003>APRS,TCPIP*:/241505z4220.45N/07128.59W_032/005g008t054r001p078P048h50b10245e1w`.
#[test]
fn the_example_of_cwop_comes_out() {
    let bulletin = Bulletin {
        at_s: 23 * 86_400 + 15 * 3_600 + 5 * 60,
        direction: Some(32.0),
        wind: Some(5.0 * MPH),
        gust: Some(8.0 * MPH),
        temperature: fahrenheit(54.0),
        rain_hour: Some(HUNDREDTH),
        rain_day: Some(78.0 * HUNDREDTH),
        rain_today: Some(48.0 * HUNDREDTH),
        humidity: Some(50.0),
        pressure: Some(1_024.5),
        ..Bulletin::default()
    };
    let place = (42.0 + 20.45 / 60.0, -(71.0 + 28.59 / 60.0));
    let body = packet("CW0003", place, &bulletin).split_off("CW0003>APRS,TCPIP*:@".len());
    assert_eq!(body, "241505z4220.45N/07128.59W_032/005g008t054r001p078P048h50b10245.stationhub");
}

#[test]
fn what_is_not_known_is_dots_or_left_out() {
    let body = |bulletin| packet("CW1", (0.0, 0.0), &bulletin).split_off("CW1>APRS,TCPIP*:@010000z".len());
    assert_eq!(body(Bulletin::default()), "0000.00N/00000.00E_.../...g...t....stationhub");
    let wet = Bulletin { humidity: Some(99.6), irradiance: Some(1_043.4), direction: Some(0.3), ..Bulletin::default() };
    assert_eq!(body(wet), "0000.00N/00000.00E_360/...g...t...h00l043.stationhub");
    let dry = Bulletin { humidity: Some(0.2), irradiance: Some(7.0), temperature: Some(-17.9), ..Bulletin::default() };
    assert_eq!(body(dry), "0000.00N/00000.00E_.../...g...t000h01L007.stationhub");
}

#[test]
fn minutes_that_round_to_sixty_are_a_degree() {
    assert_eq!(angle(48.999_99, 2, ['N', 'S']), "4900.00N");
    assert_eq!(angle(-33.8688, 2, ['N', 'S']), "3352.13S");
    assert_eq!(angle(151.2093, 3, ['E', 'W']), "15112.56E");
}

/// Plays a server that says these lines; returns how the conversation ended, and what it heard.
async fn talk(banner: &str, answer: &str, passcode: &str) -> (Result<(), Unsent>, String) {
    let (ours, theirs) = tokio::io::duplex(1_024);
    let (mut read, mut write) = tokio::io::split(theirs);
    write.write_all(format!("{banner}\r\n{answer}\r\n").as_bytes()).await.unwrap();
    let server = async move {
        let mut heard = String::new();
        read.read_to_string(&mut heard).await.unwrap();
        drop(write);
        heard
    };
    tokio::join!(converse(ours, "CW1234", passcode, "PACKET"), server)
}

#[tokio::test]
async fn the_packet_goes_once_the_login_is_answered() {
    let (sent, heard) = talk("# aprsc 2.1", "# logresp CW1234 unverified, server CWOP-3", "-1").await;
    assert!(sent.is_ok());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(heard, format!("user CW1234 pass -1 vers stationhub {version}\r\nPACKET\r\n"));
}

#[tokio::test]
async fn a_server_that_does_not_let_the_station_in_gets_no_packet() {
    for (banner, answer, passcode, fault) in [
        ("# aprsc", "# Invalid username", "-1", Fault::Login),
        ("# aprsc", "# logresp CW1234 unverified, server X", "12345", Fault::Login),
        ("# aprsc", "# Server full", "-1", Fault::Later(None)),
        ("220 mail.example ESMTP", "", "-1", Fault::Later(None)),
    ] {
        let (sent, heard) = talk(banner, answer, passcode).await;
        assert!(matches!(sent, Err(Unsent::Refused(_, found)) if found == fault), "{banner} {answer}");
        assert!(!heard.contains("PACKET"), "{heard}");
    }
}
