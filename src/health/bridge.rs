//! The bridge's health: what is seen of it at one moment, its rates, and its checks.
//!
//! Owns these checks' thresholds and words. Pure, but for the counters that [`Bridged`] hands over: no clock, no I/O.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::checks::{Issue, Severity};
use crate::bridge::{Standing, State};
use crate::clock::CLOCK_SET_MS;

/// How long the upstream may be away, or refuse what waits, seconds.
const AWAY_S_MAX: u64 = 30;
/// How long a message may wait while the upstream is connected, seconds.
const LAG_S_MAX: u64 = 600;
/// How full the outbox may be, percent.
const OUTBOX_PERCENT_MAX: u64 = 80;
/// How long a loss is told, milliseconds.
const LOSS_TOLD_MS: i64 = 3_600_000;
/// Rates are counted over at least this time, seconds.
const RATE_S_MIN: f64 = 10.0;

/// The bridge, as health looks at it.
pub struct Bridged {
    /// The upstream, `HOST:PORT`.
    pub upstream: String,
    /// The bridge's counters.
    pub state: Arc<State>,
    /// Returns the outbox's counters, without waiting.
    pub backlog: Box<dyn Fn() -> Backlog + Send + Sync>,
    /// Reads when the oldest message that waits was received, Unix milliseconds; it may wait for the disk.
    pub oldest_ms: Arc<dyn Fn() -> Option<i64> + Send + Sync>,
}

/// The counters of what waits for the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Messages that wait now.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// As many bytes may wait.
    pub bytes_max: u64,
    /// Messages that came to wait since the start.
    pub added: u64,
    /// Messages that were dropped since the start, for the outbox's limits.
    pub dropped: u64,
    /// When the last of them was, Unix milliseconds; 0 where there was none.
    pub dropped_ms: i64,
}

/// What is seen of the bridge at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct BridgeReport {
    /// The upstream, `HOST:PORT`.
    pub upstream: String,
    /// How the connection stands, and what was counted since the start.
    #[serde(flatten)]
    pub standing: Standing,
    /// Since how long it is connected, or not, seconds.
    pub standing_s: u64,
    /// What waits.
    pub backlog: Backlog,
    /// How long the oldest message has waited, seconds; `None` where none waits, or that is not known.
    pub oldest_age_s: Option<u64>,
    /// Messages that the upstream acknowledged a second.
    pub sent_per_s: f64,
    /// Messages that came to wait a second.
    pub added_per_s: f64,
}

impl Bridged {
    /// Looks at the bridge; `oldest_ms` was read before.
    pub(super) fn report(
        &self,
        now_ms: i64,
        oldest_ms: Option<i64>,
        (sent_per_s, added_per_s): (f64, f64),
    ) -> BridgeReport {
        let (standing, backlog) = (self.state.standing(), (self.backlog)());
        BridgeReport {
            upstream: self.upstream.clone(),
            standing_s: standing.for_s,
            standing,
            backlog,
            oldest_age_s: oldest_ms
                .filter(|since| backlog.messages > 0 && *since >= CLOCK_SET_MS)
                .map(|since| age_s(now_ms, since)),
            sent_per_s,
            added_per_s,
        }
    }

    /// Returns an earlier report with what is merely counted as it is now.
    pub(super) fn counted_anew(&self, report: BridgeReport) -> BridgeReport {
        let standing = self.state.standing();
        BridgeReport { standing_s: standing.for_s, standing, backlog: (self.backlog)(), ..report }
    }
}

/// Counts how fast the outbox fills and empties: from the last look but one to now, looks that follow each other at once
/// being one.
#[derive(Debug)]
pub(super) struct Rates {
    earlier: Sample,
    later: Sample,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    sent: u64,
    added: u64,
}

impl Rates {
    /// Begins at the start, when nothing is counted.
    pub(super) fn begin(at: Instant) -> Rates {
        let start = Sample { at, sent: 0, added: 0 };
        Rates { earlier: start, later: start }
    }

    /// Returns the messages sent and added a second.
    pub(super) fn look(&mut self, at: Instant, sent: u64, added: u64) -> (f64, f64) {
        if at.saturating_duration_since(self.later.at).as_secs_f64() >= RATE_S_MIN {
            self.earlier = self.later;
            self.later = Sample { at, sent, added };
        }
        let Sample { at: from, sent: sent_before, added: added_before } = self.earlier;
        let seconds = at.saturating_duration_since(from).as_secs_f64().max(1.0);
        #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (rate(sent, sent_before), rate(added, added_before))
    }
}

/// Returns what is wrong with the bridge.
pub(super) fn verdict(bridge: &BridgeReport, now_ms: i64) -> Vec<Issue> {
    // Where the connection is at fault, what waits is told with it.
    let way = connection(bridge).or_else(|| lag(bridge));
    way.into_iter().chain(outbox(bridge, now_ms)).collect()
}

/// An upstream that accepts and never acknowledges comes and goes: it is told by what waits, not by the connection's age.
fn connection(bridge: &BridgeReport) -> Option<Issue> {
    let BridgeReport { upstream, standing, standing_s, .. } = bridge;
    let away = !standing.connected && *standing_s >= AWAY_S_MAX;
    let stuck = standing.last_error.is_some() && bridge.oldest_age_s.is_some_and(|age| age >= AWAY_S_MAX);
    if !away && !stuck {
        return None;
    }
    let how = match standing.connected {
        false => format!("has not been connected for {}", span(*standing_s)),
        true => "is connected and acknowledges nothing".to_owned(),
    };
    let error = standing.last_error.as_deref().unwrap_or("no error is known");
    let text = format!(
        "the upstream {upstream} {how} ({error}); {}, kept until it is there; check the upstream, the network and [bridge]",
        waiting(bridge)
    );
    Some(Issue { id: "bridge.connection", severity: Severity::Degraded, text })
}

fn lag(bridge: &BridgeReport) -> Option<Issue> {
    bridge.oldest_age_s.filter(|age| bridge.standing.connected && *age >= LAG_S_MAX)?;
    let (sent, added) = (bridge.sent_per_s, bridge.added_per_s);
    let outlook = match time_left_s(bridge) {
        Some(seconds) => format!("at this rate all are sent in {}", span(seconds)),
        None => "they do not get fewer; see bridge.rate_max, and what the link and the upstream can take".to_owned(),
    };
    let text = format!(
        "the upstream {} lags behind: {}; {sent:.1} messages/s are sent and {added:.1}/s come in: {outlook}",
        bridge.upstream,
        waiting(bridge)
    );
    Some(Issue { id: "bridge.lag", severity: Severity::Degraded, text })
}

/// Returns how long what waits takes at the present rates, seconds; `None` for ever.
fn time_left_s(bridge: &BridgeReport) -> Option<u64> {
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = bridge.backlog.messages as f64 / (bridge.sent_per_s - bridge.added_per_s);
    let is_estimate = seconds.is_finite() && (0.0..1e9).contains(&seconds);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    is_estimate.then(|| seconds.ceil() as u64)
}

fn outbox(bridge: &BridgeReport, now_ms: i64) -> Option<Issue> {
    let Backlog { bytes, bytes_max, dropped, dropped_ms, .. } = bridge.backlog;
    let percent = bytes.saturating_mul(100) / bytes_max.max(1);
    let lost = dropped > 0 && now_ms.saturating_sub(dropped_ms) < LOSS_TOLD_MS;
    if percent < OUTBOX_PERCENT_MAX && !lost {
        return None;
    }
    let loss = match dropped {
        0 => "then the oldest messages are dropped".to_owned(),
        _ => {
            format!("{dropped} messages were DROPPED since the start, the last {} ago", span(age_s(now_ms, dropped_ms)))
        }
    };
    let text = format!(
        "the outbox for the upstream {} is {percent} % full: {loss}; bring the upstream back, or raise \
         bridge.outbox_bytes_max and bridge.outbox_age_s_max",
        bridge.upstream
    );
    Some(Issue { id: "bridge.outbox", severity: Severity::Degraded, text })
}

fn waiting(bridge: &BridgeReport) -> String {
    waiting_words(bridge.backlog.messages, bridge.backlog.bytes, bridge.oldest_age_s)
}

/// Says what waits, and for how long.
pub(crate) fn waiting_words(messages: u64, bytes: u64, oldest_age_s: Option<u64>) -> String {
    match (messages, oldest_age_s) {
        (0, _) => "nothing waits".to_owned(),
        (_, Some(age)) => format!("{messages} messages ({}) wait, the oldest for {}", size(bytes), span(age)),
        (_, None) => format!("{messages} messages ({}) wait", size(bytes)),
    }
}

fn age_s(now_ms: i64, since_ms: i64) -> u64 {
    u64::try_from(now_ms.saturating_sub(since_ms) / 1000).unwrap_or(0)
}

/// Says a time in the unit that suits it.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Says a size in the unit that suits it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    const NOW_MS: i64 = 10_000_000;

    /// Returns a bridge that is well.
    pub(crate) fn well() -> BridgeReport {
        let standing = Standing {
            connected: true,
            for_s: 0,
            last_error: None,
            sent: 5,
            repeated: 1,
            unheard: 1,
            refused: 0,
            received: 2,
            denied: 0,
            echoes: 0,
            connects: 1,
            in_flight: 3,
        };
        BridgeReport {
            upstream: "up.example:8883".to_owned(),
            standing,
            standing_s: 3_600,
            backlog: Backlog { messages: 4, bytes: 400, bytes_max: 1_000, added: 9, dropped: 0, dropped_ms: 0 },
            oldest_age_s: Some(1),
            sent_per_s: 2.0,
            added_per_s: 1.0,
        }
    }

    fn told(change: impl FnOnce(&mut BridgeReport)) -> Vec<(&'static str, String)> {
        let mut bridge = well();
        change(&mut bridge);
        verdict(&bridge, NOW_MS).into_iter().map(|issue| (issue.id, issue.text)).collect()
    }

    #[test]
    fn a_bridge_that_works_or_has_lost_its_connection_just_now_is_no_issue() {
        assert_eq!(told(|_| {}), []);
        let lost = |bridge: &mut BridgeReport| {
            bridge.standing.connected = false;
            bridge.standing.last_error = Some("reset".to_owned());
            (bridge.standing_s, bridge.oldest_age_s) = (29, Some(29));
        };
        assert_eq!(told(lost), []);
        // Nothing has waited since: that the last message was refused is no issue that lasts.
        let idle = |bridge: &mut BridgeReport| {
            bridge.standing.last_error = Some("reset".to_owned());
            bridge.oldest_age_s = None;
        };
        assert_eq!(told(idle), []);
    }

    #[test]
    fn an_upstream_that_is_away_is_told_with_why_and_with_what_waits() {
        let away = |bridge: &mut BridgeReport| {
            bridge.standing.connected = false;
            bridge.standing.last_error = Some("connection refused".to_owned());
            (bridge.standing_s, bridge.oldest_age_s) = (10_800, Some(10_000));
        };
        assert_eq!(
            told(away),
            [(
                "bridge.connection",
                "the upstream up.example:8883 has not been connected for 3 h (connection refused); 4 messages \
                 (400 bytes) wait, the oldest for 2 h, kept until it is there; check the upstream, the network and [bridge]"
                    .to_owned()
            )]
        );
        // It need not have anything to send.
        let empty = |bridge: &mut BridgeReport| {
            bridge.standing.connected = false;
            (bridge.standing_s, bridge.backlog.messages, bridge.oldest_age_s) = (60, 0, None);
        };
        assert!(told(empty)[0].1.contains("(no error is known); nothing waits"));
    }

    #[test]
    fn an_upstream_that_comes_and_goes_and_acknowledges_nothing_is_told() {
        for connected in [false, true] {
            let flapping = |bridge: &mut BridgeReport| {
                bridge.standing.connected = connected;
                bridge.standing.last_error = Some("no ack for 30 s".to_owned());
                (bridge.standing_s, bridge.oldest_age_s) = (5, Some(60));
            };
            let told = told(flapping);
            assert!(told.len() == 1 && told[0].0 == "bridge.connection", "{told:?}");
            assert!(told[0].1.contains("no ack for 30 s"), "{told:?}");
        }
    }

    #[test]
    fn a_backlog_that_drains_slowly_is_told_with_how_long_it_takes() {
        let lagging = |bridge: &mut BridgeReport| (bridge.oldest_age_s, bridge.backlog.messages) = (Some(600), 1_000);
        let said = told(|bridge| lagging(bridge));
        assert_eq!(said[0].0, "bridge.lag");
        assert!(said[0].1.contains("2.0 messages/s are sent and 1.0/s come in: at this rate all are sent in 16 min"));
        for sent_per_s in [1.0, 0.5, 0.0] {
            let said = told(|bridge| {
                lagging(bridge);
                bridge.sent_per_s = sent_per_s;
            });
            assert!(said[0].1.contains("they do not get fewer"), "{said:?}");
        }
        assert_eq!(told(|bridge| bridge.oldest_age_s = Some(599)), []);
    }

    #[test]
    fn an_outbox_that_is_nearly_full_or_dropped_messages_within_the_hour_is_told() {
        let full = told(|bridge| bridge.backlog.bytes = 800);
        assert!(full[0].0 == "bridge.outbox" && full[0].1.contains("80 % full: then the oldest"), "{full:?}");
        assert_eq!(told(|bridge| bridge.backlog.bytes = 799), []);
        let lost =
            |ago_ms: i64| told(|bridge| (bridge.backlog.dropped, bridge.backlog.dropped_ms) = (7, NOW_MS - ago_ms));
        assert!(lost(3_599_999)[0].1.contains("7 messages were DROPPED since the start, the last 59 min ago"));
        assert_eq!(lost(3_600_000), []);
    }

    #[test]
    fn a_message_from_before_the_clock_was_set_has_no_age() {
        let bridged = Bridged {
            upstream: String::new(),
            state: Arc::new(State::new()),
            backlog: Box::new(|| Backlog { messages: 1, ..Backlog::default() }),
            oldest_ms: Arc::new(|| None),
        };
        let age_s = |oldest_ms| bridged.report(CLOCK_SET_MS + 90_000, oldest_ms, (0.0, 0.0)).oldest_age_s;
        assert_eq!([age_s(None), age_s(Some(5_000)), age_s(Some(CLOCK_SET_MS))], [None, None, Some(90)]);
    }

    #[test]
    fn rates_are_counted_from_the_last_look_but_one_and_never_over_a_moment() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut rates = Rates::begin(start);
        assert_eq!(rates.look(after(0), 1, 2), (1.0, 2.0), "over a second at least");
        assert_eq!(rates.look(after(60), 60, 120), (1.0, 2.0));
        assert_eq!(rates.look(after(61), 60, 120).0, 60.0 / 61.0, "two looks at once are one");
        assert_eq!(rates.look(after(120), 60, 240), (0.0, 2.0), "since the look at 60 s");
        assert_eq!(rates.look(after(180), 660, 240), (10.0, 0.0), "since the look at 120 s");
    }
}
