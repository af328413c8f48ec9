//! The types of section `[alerts]`: which faults and which weather are told, to whom, and when.
//!
//! Owns these types and the arithmetic of quiet hours. It never knows a default or a range, and never sends anything.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Password;
use super::template::Template;
use crate::reading::Quantity;

/// Section `[alerts]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// How often a message is repeated while its cause lasts and nobody has acknowledged it; `None` never.
    pub repeat: Option<Duration>,
    /// How long a message waits for others to go with it.
    pub group: Duration,
    /// When only critical messages are sent.
    pub quiet: Option<Quiet>,
    /// Where messages go.
    pub channels: Vec<Channel>,
    /// What is told.
    pub rules: Vec<Rule>,
    /// What is not wrong, but should be known.
    pub warnings: Vec<String>,
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody should be woken.
    Critical,
}

impl Severity {
    /// Every severity, least first.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// Returns the name in `hub.toml`, in messages and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// Returns the severity of that name.
    pub fn of_name(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

/// Hours of every day in which only critical messages are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Quiet {
    /// When they begin.
    pub from: Time,
    /// When they end; before `from`, that is on the next day.
    pub to: Time,
    /// Where it is that time.
    pub zone: TimeZone,
}

impl Quiet {
    /// Returns when the quiet hours end that `now_ms` falls into, both Unix milliseconds; `None` outside of them.
    pub fn ends_ms(&self, now_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(self.zone.clone());
        let (time, date) = (now.time(), now.date());
        let over_midnight = self.to <= self.from;
        let end = match (over_midnight, time >= self.from, time < self.to) {
            (false, true, true) | (true, false, true) => date,
            (true, true, _) => date.tomorrow().ok()?,
            _ => return None,
        };
        let end = end.to_datetime(self.to).to_zoned(self.zone.clone()).ok()?;
        Some(end.timestamp().as_millisecond())
    }
}

/// One `[[alerts.channel]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
}

impl Channel {
    /// Returns the channel that writes into the log, which rules have where no channel is configured.
    pub fn log() -> Channel {
        Channel { name: "log".to_owned(), kind: ChannelKind::Log }
    }
}

/// What a channel is.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelKind {
    /// Lines in the hub's log.
    Log,
    /// Retained messages on the hub's own broker, one topic for each rule.
    Mqtt {
        /// What the topics begin with.
        topic: String,
    },
    /// A request to an HTTP server.
    Webhook(Webhook),
    /// A mail.
    Mail(Mail),
    /// A program that is run.
    Command {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<Template>,
        /// How long it may run.
        timeout: Duration,
    },
}

impl ChannelKind {
    /// Returns the name in `hub.toml`.
    pub fn name(&self) -> &'static str {
        match self {
            ChannelKind::Log => "log",
            ChannelKind::Mqtt { .. } => "mqtt",
            ChannelKind::Webhook(_) => "webhook",
            ChannelKind::Mail(_) => "mail",
            ChannelKind::Command { .. } => "command",
        }
    }

    /// Tells whether the channel may wake somebody, so that it gathers messages and keeps the quiet hours.
    pub fn may_wake(&self) -> bool {
        !matches!(self, ChannelKind::Log | ChannelKind::Mqtt { .. })
    }
}

/// A channel of kind `webhook`. Its URL and its headers may hold secrets and are never shown.
#[derive(Clone, PartialEq)]
pub struct Webhook {
    /// Where the request goes.
    pub url: Template,
    /// `POST`, `PUT` or `GET`.
    pub method: &'static str,
    /// Names and values of headers.
    pub headers: Vec<(String, Template)>,
    /// The request's body.
    pub body: Template,
    /// Its media type.
    pub content_type: String,
    /// The authorities that the server's certificate may come from, PEM; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// How long a request may take.
    pub timeout: Duration,
}

impl Webhook {
    /// Returns scheme, host and port of the URL: the part of it that is no secret.
    pub fn server(&self) -> &str {
        let url = self.url.as_written();
        let host = url.find("://").map_or(0, |scheme| scheme + 3);
        let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |length| host + length);
        &url[..end]
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("server", &self.server()).finish_non_exhaustive()
    }
}

/// A channel of kind `mail`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How TLS comes about.
    pub tls: MailTls,
    /// The user to log in as.
    pub username: Option<String>,
    /// Their password.
    pub password: Option<Password>,
    /// The sender.
    pub from: String,
    /// Who gets it, at least one.
    pub to: Vec<String>,
    /// The authorities that the server's certificate may come from, PEM; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// How long sending may take.
    pub timeout: Duration,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// After the command STARTTLS, without which nothing is sent.
    StartTls,
    /// From the first byte on.
    Tls,
    /// Not at all.
    None,
}

impl MailTls {
    /// Every way.
    pub const ALL: [MailTls; 3] = [MailTls::StartTls, MailTls::Tls, MailTls::None];

    /// Returns the name in `hub.toml`.
    pub fn name(self) -> &'static str {
        match self {
            MailTls::StartTls => "starttls",
            MailTls::Tls => "tls",
            MailTls::None => "none",
        }
    }
}

/// One `[[alerts.rule]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub condition: Condition,
    /// How long that must last before it is told.
    pub hold: Duration,
    /// As in [`Alerts::repeat`].
    pub repeat: Option<Duration>,
    /// How much it matters; `None`: as much as the check says.
    pub severity: Option<Severity>,
    /// Positions of its channels in [`Alerts::channels`].
    pub channels: Vec<usize>,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A check of the hub's health fails: that of this id, or `None`, any.
    Check(Option<String>),
    /// A quantity of a reading is beyond a limit.
    Quantity(Limit),
}

/// A limit to a quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Which quantity.
    pub quantity: Quantity,
    /// On which side of the limit.
    pub comparison: Comparison,
    /// The limit.
    pub number: f64,
    /// Where it ends, on the near side of the limit; without it, at the limit.
    pub clear: Option<f64>,
    /// The sources whose readings count, an MQTT filter; `None` for all.
    pub source: Option<String>,
}

/// How a value compares to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Less than.
    Below,
    /// Less than or equal.
    AtMost,
    /// Greater than.
    Above,
    /// Greater than or equal.
    AtLeast,
}

impl Comparison {
    /// Every comparison.
    pub const ALL: [Comparison; 4] = [Comparison::Below, Comparison::AtMost, Comparison::Above, Comparison::AtLeast];

    /// Returns the sign in `hub.toml`.
    pub fn sign(self) -> &'static str {
        match self {
            Comparison::Below => "<",
            Comparison::AtMost => "<=",
            Comparison::Above => ">",
            Comparison::AtLeast => ">=",
        }
    }

    /// Tells whether `value` is on this side of `limit`.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Comparison::Below => value < limit,
            Comparison::AtMost => value <= limit,
            Comparison::Above => value > limit,
            Comparison::AtLeast => value >= limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.quantity.name(), self.comparison.sign(), self.number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use jiff::civil::time;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn quiet_hours_end_on_the_right_day() {
        let quiet = Quiet { from: time(22, 0, 0, 0), to: time(7, 0, 0, 0), zone: TimeZone::UTC };
        assert_eq!(quiet.ends_ms(ms("2026-03-01T21:59:59Z")), None);
        assert_eq!(quiet.ends_ms(ms("2026-03-01T22:00:00Z")), Some(ms("2026-03-02T07:00:00Z")));
        assert_eq!(quiet.ends_ms(ms("2026-03-02T06:59:59Z")), Some(ms("2026-03-02T07:00:00Z")));
        assert_eq!(quiet.ends_ms(ms("2026-03-02T07:00:00Z")), None);
        let noon = Quiet { from: time(12, 0, 0, 0), to: time(13, 30, 0, 0), zone: TimeZone::UTC };
        assert_eq!(noon.ends_ms(ms("2026-03-02T13:00:00Z")), Some(ms("2026-03-02T13:30:00Z")));
        assert_eq!(noon.ends_ms(ms("2026-03-02T13:30:00Z")), None);
        assert_eq!(noon.ends_ms(ms("2026-03-02T11:00:00Z")), None);
    }

    #[test]
    fn quiet_hours_are_those_of_the_station_also_when_its_clocks_change() {
        let Ok(zone) = TimeZone::get("Europe/Berlin") else {
            eprintln!("skipped: no time zones on this machine");
            return;
        };
        let quiet = Quiet { from: time(22, 0, 0, 0), to: time(7, 0, 0, 0), zone };
        assert_eq!(quiet.ends_ms(ms("2026-03-28T22:00:00Z")), Some(ms("2026-03-29T05:00:00Z")));
        assert_eq!(quiet.ends_ms(ms("2026-03-28T20:59:59Z")), None);
    }
}
