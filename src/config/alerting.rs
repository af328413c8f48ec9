//! Reads section `[alerts]` of `hub.toml` and its rules: their keys, defaults and ranges, and what they say together.
//!
//! Owns the form of conditions such as `temperature < -20`. It never judges one.

use std::path::Path;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::alerts::{Alerts, Channel, Comparison, Condition, Limit, Quiet, Rule, Severity};
use super::channels;
use super::reader::Reader;
use super::sections::{DAY_S, seconds};
use crate::health::checks;
use crate::reading::Quantity;
use crate::topic::valid_filter;

/// Longest name of a rule or a channel, characters.
const NAME_CHARS_MAX: usize = 64;
/// Rules, at most; each reading is compared with all of them.
const RULES_MAX: usize = 100;
/// Longest repeat and longest hold, seconds.
const WEEK_S: u64 = 7 * DAY_S;

/// Stands for every check.
const EVERY_CHECK: &str = "*";

/// Reads the section. Without rules, and with a channel, the faults of the hub's own health are told.
pub(super) fn alerts(reader: &mut Reader, base: &Path, zone: Option<&str>) -> Alerts {
    let repeat = repeat(reader, "alerts.repeat_s");
    let group = seconds(reader, "alerts.group_s", 10, 0..=3_600);
    let quiet = quiet(reader, zone);
    let mut warnings = Vec::new();
    let mut channels = channels::channels(reader, base, &mut warnings);
    let with_rules = reader.is_set("alerts.rule");
    if with_rules && channels.is_empty() && !reader.is_set("alerts.channel") {
        channels.push(Channel::log());
    }
    let keys = if with_rules { reader.list("alerts.rule") } else { Vec::new() };
    if keys.len() > RULES_MAX {
        reader.complain("alerts.rule", format!("at most {RULES_MAX} rules can stand here, are {}", keys.len()));
    }
    let mut rules: Vec<Rule> = keys.iter().filter_map(|key| rule(reader, key, &channels, repeat)).collect();
    for (index, key) in keys.iter().enumerate() {
        refuse_twin(reader, &keys[..index], key);
    }
    if !with_rules && !channels.is_empty() {
        rules.push(Rule {
            name: "health".to_owned(),
            condition: Condition::Check(None),
            hold: Duration::ZERO,
            repeat,
            severity: None,
            channels: (0..channels.len()).collect(),
        });
    }
    Alerts { repeat, group, quiet, channels, rules, warnings }
}

/// Tells whether a text may be the name of a rule or a channel, which also stands in topics and in ids of messages.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

pub(super) const NAME_WORDS: &str = "1 to 64 letters, digits, '-', '_' and '.'";

/// Reports a name that an earlier section of the list has, too.
pub(super) fn refuse_twin(reader: &mut Reader, earlier: &[String], key: &str) {
    let name = |reader: &mut Reader, key: &str| reader.peek(&format!("{key}.name"));
    if let Some(own) = name(reader, key)
        && let Some(twin) = earlier.iter().find(|twin| name(reader, twin).as_ref() == Some(&own))
    {
        reader.complain(&format!("{key}.name"), format!("{own:?} is the name of {twin}, too"));
    }
}

fn repeat(reader: &mut Reader, key: &str) -> Option<Duration> {
    let repeat = reader.whole(key, 0..=WEEK_S)?;
    if (1..60).contains(&repeat) {
        reader.complain(key, format!("must be 0 for never, or at least 60, is {repeat}"));
    }
    (repeat > 0).then(|| Duration::from_secs(repeat))
}

fn quiet(reader: &mut Reader, zone: Option<&str>) -> Option<Quiet> {
    let hours = |text: &str| {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (time(from)?, time(to)?);
        (from != to).then_some((from, to))
    };
    let (from, to) = reader.text("alerts.quiet", "two times of day, such as \"22:00-07:00\"", hours)?;
    let zone = match zone {
        None => TimeZone::system(),
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(_) => {
                let text = format!("{name:?} is not known on this machine, and alerts.quiet needs it (Debian: tzdata)");
                reader.complain("station.timezone", text);
                return None;
            }
        },
    };
    Some(Quiet { from, to, zone })
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn rule(reader: &mut Reader, key: &str, channels: &[Channel], default_repeat: Option<Duration>) -> Option<Rule> {
    let of = |name: &str| format!("{key}.{name}");
    reader.require(&of("name"));
    let name = reader.text(&of("name"), NAME_WORDS, |text| is_name(text).then(|| text.to_owned()));
    let condition = condition(reader, key);
    let severity = reader.text(&of("severity"), "\"info\", \"warning\" or \"critical\"", Severity::of_name);
    let is_check = matches!(condition, Some(Condition::Check(_)));
    let default_severity = if is_check { None } else { Some(Severity::Warning) };
    let hold = seconds(reader, &of("for_s"), 0, 0..=WEEK_S);
    let repeat = if reader.is_set(&of("repeat_s")) { repeat(reader, &of("repeat_s")) } else { default_repeat };
    Some(Rule {
        name: name?,
        condition: condition?,
        hold,
        repeat,
        severity: severity.or(default_severity),
        channels: of_rule(reader, &of("channels"), channels),
    })
}

/// Returns the positions of a rule's channels: all, where it names none.
fn of_rule(reader: &mut Reader, key: &str, channels: &[Channel]) -> Vec<usize> {
    let position = |name: &String| channels.iter().position(|channel| channel.name == *name);
    let named = reader.texts(key, "the name of a channel", |name| position(&name.to_owned()).is_some());
    match named {
        Some(names) => {
            if names.is_empty() {
                reader.complain(key, "must name a channel; leave it out for all".to_owned());
            }
            names.iter().filter_map(position).collect()
        }
        None => (0..channels.len()).collect(),
    }
}

fn condition(reader: &mut Reader, key: &str) -> Option<Condition> {
    let of = |name: &str| format!("{key}.{name}");
    if reader.is_set(&of("check")) == reader.is_set(&of("when")) {
        reader.complain(key, "needs exactly one of check = \"…\" and when = \"…\"");
    }
    let ids = checks::CHECKS.map(|id| format!("{id:?}")).join(", ");
    let check = |text: &str| match text {
        EVERY_CHECK => Some(None),
        id => checks::CHECKS.contains(&id).then(|| Some(id.to_owned())),
    };
    let check = reader.text(&of("check"), &format!("\"*\" for every check, or one of {ids}"), check);
    let limit = reader.parsed(&of("when"), limit);
    let clear = reader.real(&of("clear"), f64::MIN..=f64::MAX);
    let filter = |text: &str| valid_filter(text).then(|| text.trim_end_matches('/').to_owned());
    let source = reader.text(&of("source"), "an MQTT topic filter", filter);
    for only in ["clear", "source"] {
        if reader.is_set(&of("check")) && reader.is_set(&of(only)) {
            reader.complain(&of(only), "goes with when = \"…\" only");
        }
    }
    let limit = limit.map(|limit| Limit { clear, source, ..limit });
    if let Some(limit) = &limit
        && limit.clear.is_some_and(|clear| clear != limit.number && limit.comparison.holds(clear, limit.number))
    {
        let text = format!("must not lie beyond the limit, {}: the alert would end before it begins", limit.number);
        reader.complain(&of("clear"), text);
    }
    check.map(Condition::Check).or(limit.map(Condition::Quantity))
}

/// Takes `temperature < -20` apart.
fn limit(text: &str) -> Result<Limit, String> {
    let name_end = text.find(['<', '>']).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let number_begin = rest.find(|letter| !matches!(letter, '<' | '>' | '=')).unwrap_or(rest.len());
    let (sign, number) = rest.split_at(number_begin);
    let wrong = || {
        let names = Quantity::ALL.map(Quantity::name).join(", ");
        format!(
            "must be a quantity, <, <=, > or >=, and a number, such as \"temperature < -20\"; quantities are {names}"
        )
    };
    let quantity = Quantity::ALL.into_iter().find(|quantity| quantity.name() == name.trim()).ok_or_else(wrong)?;
    let comparison = Comparison::ALL.into_iter().find(|comparison| comparison.sign() == sign).ok_or_else(wrong)?;
    let number = number.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong)?;
    Ok(Limit { quantity, comparison, number, clear: None, source: None })
}
