//! CWOP: a weather report as an APRS packet, and the conversation that brings it to a server of APRS-IS.
//!
//! Owns both. Sources: "APRS Protocol Reference", version 1.0.1, chapters 6 (positions) and 12 (weather reports); the FAQ of
//! CWOP (wxqa.com/faq.html) for logging in with -1 and hanging up; APRS 1.1's addendum for L and l. The network acknowledges
//! nothing: what was written to a server that let the station in counts as taken. It never opens a socket.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::error::Fault;
use super::text::{imperial, time};
use crate::almanac::Bulletin;
use crate::weather::units::Dimension;

/// Where it is.
pub(super) const SERVER: (&str, u16) = ("cwop.aprs.net", 14_580);
/// What stations that are not radio amateurs log in with.
pub(super) const PASSCODE: &str = "-1";
/// How much a server may say before the packet, bytes.
const SAID_BYTES_MAX: u64 = 8_192;
/// How long a server may take to hang up after the packet.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// Returns the packet of a bulletin; `place` is degrees north and degrees east. What is not known is dots where the format has
/// a fixed place for it, and is left out elsewhere.
pub(super) fn packet(station: &str, place: (f64, f64), bulletin: &Bulletin) -> String {
    let (north, east) = place;
    let mph = |speed: Option<f64>| three(speed.map(|speed| imperial(Dimension::Speed, speed)));
    let mut text = format!(
        "{station}>APRS,TCPIP*:@{}{}/{}_{}/{}g{}t{}",
        time(bulletin.at_s, "%d%H%Mz"),
        angle(north, 2, ['N', 'S']),
        angle(east, 3, ['E', 'W']),
        three(bulletin.direction.map(north_is_360)),
        mph(bulletin.wind),
        mph(bulletin.gust),
        temperature(bulletin.temperature),
    );
    for (letter, rain) in [('r', bulletin.rain_hour), ('p', bulletin.rain_day), ('P', bulletin.rain_today)] {
        if let Some(rain) = rain {
            text.push(letter);
            text += &three(Some(imperial(Dimension::Depth, rain) * 100.0));
        }
    }
    if let Some(humidity) = bulletin.humidity {
        let percent = humidity.round().clamp(1.0, 100.0);
        text += &format!("h{:02}", if percent > 99.0 { 0.0 } else { percent });
    }
    if let Some(hpa) = bulletin.pressure {
        text += &format!("b{:05.0}", (hpa * 10.0).clamp(0.0, 99_999.0));
    }
    if let Some(irradiance) = bulletin.irradiance {
        let watts = irradiance.round().clamp(0.0, 1_999.0);
        text += &if watts < 1_000.0 { format!("L{watts:03}") } else { format!("l{:03}", watts - 1_000.0) };
    }
    text + ".stationhub"
}

fn north_is_360(degrees: f64) -> f64 {
    match degrees.rem_euclid(360.0).round() {
        0.0 => 360.0,
        degrees => degrees,
    }
}

/// Returns three digits, or dots where nothing is known.
fn three(value: Option<f64>) -> String {
    value.map_or_else(|| "...".to_owned(), |value| format!("{:03}", value.round().clamp(0.0, 999.0)))
}

/// Returns °F in three places, below zero as `-05`.
fn temperature(celsius: Option<f64>) -> String {
    match celsius.map(|celsius| imperial(Dimension::Temperature, celsius).round().clamp(-99.0, 999.0)) {
        Some(degrees) if degrees < 0.0 => format!("-{:02}", -degrees),
        Some(degrees) => format!("{:03}", degrees.abs()),
        None => "...".to_owned(),
    }
}

/// Returns degrees, minutes and hundredths of minutes, and which half of the world.
fn angle(degrees: f64, digits: usize, [positive, negative]: [char; 2]) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 180 degrees")]
    let hundredths = (degrees.abs() * 6_000.0).round() as u64;
    let letter = if degrees < 0.0 { negative } else { positive };
    format!("{:0digits$}{:02}.{:02}{letter}", hundredths / 6_000, hundredths / 100 % 60, hundredths % 100)
}

/// Why a packet did not go.
pub(super) enum Unsent {
    /// The connection failed.
    Io(std::io::Error),
    /// The server does not let the station in: its words, and what they mean.
    Refused(String, Fault),
}

impl From<std::io::Error> for Unsent {
    fn from(error: std::io::Error) -> Unsent {
        Unsent::Io(error)
    }
}

/// Brings a packet to a server.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    station: &str,
    passcode: &str,
    packet: &str,
) -> Result<(), Unsent> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read.take(SAID_BYTES_MAX)).lines();
    let gone = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it hung up");
    let banner = lines.next_line().await?.ok_or_else(gone)?;
    if !banner.starts_with('#') {
        let said = format!("{:?}, which is no server of APRS-IS", first(&banner));
        return Err(Unsent::Refused(said, Fault::Later(None)));
    }
    let login = format!("user {station} pass {passcode} vers stationhub {}\r\n", env!("CARGO_PKG_VERSION"));
    write.write_all(login.as_bytes()).await?;
    loop {
        let line = lines.next_line().await?.ok_or_else(gone)?;
        if let Some(fault) = judge(&line, passcode) {
            fault.map_err(|fault| Unsent::Refused(format!("{:?}", first(&line)), fault))?;
            break;
        }
    }
    write.write_all(format!("{packet}\r\n").as_bytes()).await?;
    write.flush().await?;
    // A connection that is closed with something unread may take the packet with it.
    let end = async {
        write.shutdown().await?;
        while lines.next_line().await?.is_some() {}
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(END_TIME_MAX, end).await {
        Ok(Ok(())) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// Says what a line before the packet means; `None` where it is no answer to the login.
fn judge(line: &str, passcode: &str) -> Option<Result<(), Fault>> {
    let said = line.to_ascii_lowercase();
    if !said.starts_with('#') {
        return None;
    }
    if said.contains("invalid") || said.contains("not allowed") {
        return Some(Err(Fault::Login));
    }
    if said.contains("full") || said.contains("too many") {
        return Some(Err(Fault::Later(None)));
    }
    let answer = said.trim_start_matches('#').trim_start().strip_prefix("logresp")?;
    // Without a passcode of one's own nobody is verified.
    let is_unknown = passcode != PASSCODE && answer.contains("unverified");
    Some(if is_unknown { Err(Fault::Login) } else { Ok(()) })
}

fn first(line: &str) -> String {
    line.chars().take(120).collect()
}

#[cfg(test)]
#[path = "cwop_tests.rs"]
mod tests;
