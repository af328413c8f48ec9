//! A message: what a channel says at once about one or several notices.
//!
//! Owns its id and its words. Pure.

use jiff::Timestamp;

use crate::config::alerts::Severity;
use crate::config::template::Field;
use crate::store::alerts::Notice;

/// The word of a notice that ends an episode.
const RESOLVED: &str = "resolved";

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same however often the message is sent, so that a receiver can tell that it has it.
    pub id: String,
    /// The station's name.
    pub station: String,
    /// The rules' names.
    pub rule: String,
    /// What they found it on.
    pub subject: String,
    /// Whether all of it is over.
    pub resolved: bool,
    /// How much it matters, the worst of it.
    pub severity: Severity,
    /// One line that says it all.
    pub title: String,
    /// All that is said, in lines.
    pub text: String,
    /// When the newest notice was made, UTC.
    pub time: String,
    /// Whether it is a test, which leaves nothing behind.
    pub is_test: bool,
}

impl Message {
    /// Makes a message of notices, oldest first; there is at least one.
    pub fn of(station: &str, notices: &[Notice]) -> Message {
        // Of an episode that is told to begin and to end at once, the end counts.
        let is_last = |(position, notice): &(usize, &Notice)| {
            !notices[position + 1..].iter().any(|later| later.episode == notice.episode)
        };
        let last: Vec<&Notice> = notices.iter().enumerate().filter(is_last).map(|(_, notice)| notice).collect();
        let resolved = last.iter().filter(|notice| notice.what == RESOLVED).count();
        let firing = last.len() - resolved;
        let title = match &last[..] {
            [one] => format!("[{station}] {} {}", one.rule, state(one)),
            many => format!("[{station}] {} alerts: {firing} firing, {resolved} resolved", many.len()),
        };
        let newest_ms = notices.iter().map(|notice| notice.made_ms).max().unwrap_or_default();
        let lines: Vec<String> = notices.iter().map(line).collect();
        Message {
            id: each(notices, ",", |notice| id(station, notice)),
            station: station.to_owned(),
            rule: each(notices, ", ", |notice| notice.rule.to_string()),
            subject: each(notices, ", ", |notice| notice.subject.to_string()),
            resolved: firing == 0,
            severity: notices.iter().map(|notice| notice.severity).max().unwrap_or(Severity::Info),
            title,
            text: lines.join("\n"),
            time: time(newest_ms).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            is_test: false,
        }
    }

    /// Makes the message of `stationhub alert test`.
    pub fn test(station: &str, channel: &str, now_ms: i64) -> Message {
        let text = format!("this is a test of channel {channel}; nothing is wrong");
        Message {
            id: format!("{station}:test:{now_ms}:firing"),
            station: station.to_owned(),
            rule: "test".to_owned(),
            subject: channel.to_owned(),
            resolved: false,
            severity: Severity::Info,
            title: format!("[{station}] test"),
            text,
            time: time(now_ms).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            is_test: true,
        }
    }

    /// Returns what fills a field.
    pub fn field(&self, field: Field) -> String {
        match field {
            Field::Id => self.id.clone(),
            Field::Station => self.station.clone(),
            Field::Rule => self.rule.clone(),
            Field::Subject => self.subject.clone(),
            Field::State => self.state().to_owned(),
            Field::Severity => self.severity.name().to_owned(),
            Field::Title => self.title.clone(),
            Field::Text => self.text.clone(),
            Field::Time => self.time.clone(),
        }
    }

    /// Returns `firing` or `resolved`.
    pub fn state(&self) -> &'static str {
        if self.resolved { RESOLVED } else { "firing" }
    }
}

fn each(notices: &[Notice], between: &str, of: impl Fn(&Notice) -> String) -> String {
    let mut all: Vec<String> = Vec::new();
    for text in notices.iter().map(of) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all.join(between)
}

fn id(station: &str, notice: &Notice) -> String {
    format!("{station}:{}:{}:{}", notice.rule, notice.episode, notice.what)
}

fn state(notice: &Notice) -> &'static str {
    match notice.what.as_str() {
        RESOLVED => RESOLVED,
        "firing" => "firing",
        _ => "still firing",
    }
}

fn line(notice: &Notice) -> String {
    let at = time(notice.made_ms).strftime("%Y-%m-%d %H:%M:%S UTC");
    let Notice { rule, subject, severity, text, .. } = notice;
    // A source is named in the words about its value already.
    let about = if text.contains(&**subject) { String::new() } else { format!("{subject}: ") };
    let line = format!("{rule} {} ({}, {at}): {about}{text}", state(notice), severity.name());
    // A source's name is what a client makes it: it makes no second line.
    line.replace(char::is_control, " ")
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(rule: &str, what: &str, severity: Severity) -> Notice {
        Notice {
            episode: if rule == "frost" { 7 } else { 8 },
            what: what.to_owned(),
            rule: rule.into(),
            subject: "garden".into(),
            severity,
            text: "cold".to_owned(),
            made_ms: 1_000,
        }
    }

    #[test]
    fn one_notice_has_its_own_id_and_title() {
        let message = Message::of("farm", &[notice("frost", "repeat 2", Severity::Warning)]);
        assert_eq!(message.id, "farm:frost:7:repeat 2");
        assert_eq!(message.title, "[farm] frost still firing");
        assert_eq!(message.text, "frost still firing (warning, 1970-01-01 00:00:01 UTC): garden: cold");
        assert_eq!((message.state(), message.time.as_str()), ("firing", "1970-01-01T00:00:01Z"));
    }

    #[test]
    fn several_notices_are_one_message_as_bad_as_the_worst() {
        let notices = [notice("frost", "resolved", Severity::Critical), notice("wind", "firing", Severity::Info)];
        let message = Message::of("farm", &notices);
        assert_eq!(message.id, "farm:frost:7:resolved,farm:wind:8:firing");
        assert_eq!(message.title, "[farm] 2 alerts: 1 firing, 1 resolved");
        assert_eq!((message.rule.as_str(), message.subject.as_str()), ("frost, wind", "garden"));
        assert_eq!((message.state(), message.severity), ("firing", Severity::Critical));
        assert_eq!(message.text.lines().count(), 2);
        assert_eq!(Message::of("farm", &notices[..1]).state(), "resolved");
    }

    #[test]
    fn what_began_and_ended_in_one_message_is_over() {
        let notices = ["firing", "resolved"].map(|what| notice("frost", what, Severity::Warning));
        let message = Message::of("farm", &notices);
        assert_eq!((message.title.as_str(), message.state()), ("[farm] frost resolved", "resolved"));
        assert_eq!(
            (message.id.as_str(), message.text.lines().count()),
            ("farm:frost:7:firing,farm:frost:7:resolved", 2)
        );
    }
}
