//! How much of what comes in goes to quarantine.
//!
//! Owns this check's thresholds and words. Pure.

use std::time::{Duration, Instant};

use super::checks::{Issue, Severity};

/// Shares are counted over this time at least.
pub(super) const TIME_MIN: Duration = Duration::from_secs(10);
/// Messages in quarantine that are too many, where they are also too large a share.
const QUARANTINED_MIN: u64 = 5;
const PERCENT_MIN: u64 = 10;

/// What came in lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Readings stored.
    pub readings: u64,
    /// Messages put into quarantine.
    pub quarantined: u64,
}

/// Counts from one look to another that is an interval later.
#[derive(Debug)]
pub(super) struct Window {
    time: Duration,
    earlier: (Instant, Share),
    later: (Instant, Share),
}

impl Window {
    /// Begins at the start, when nothing is counted.
    pub(super) fn begin(at: Instant, interval: Duration) -> Window {
        let start = (at, Share::default());
        Window { time: interval.max(TIME_MIN), earlier: start, later: start }
    }

    /// Returns what came in since the last look but one, those that follow each other within the window's time being one.
    pub(super) fn look(&mut self, at: Instant, now: Share) -> Share {
        if at.saturating_duration_since(self.later.0) >= self.time {
            self.earlier = self.later;
            self.later = (at, now);
        }
        let before = self.earlier.1;
        Share {
            readings: now.readings.saturating_sub(before.readings),
            quarantined: now.quarantined.saturating_sub(before.quarantined),
        }
    }
}

/// Returns what is wrong with what came in.
pub(super) fn verdict(share: Share) -> Option<Issue> {
    let Share { readings, quarantined } = share;
    let in_all = readings.saturating_add(quarantined);
    let percent = quarantined.saturating_mul(100).checked_div(in_all)?;
    if quarantined < QUARANTINED_MIN || percent < PERCENT_MIN {
        return None;
    }
    let text = format!(
        "{quarantined} of the last {in_all} messages ({percent} %) are no readings and went to quarantine; see why with \
         `stationhub quarantine list`, and check that sensor's firmware and ingest.route"
    );
    Some(Issue { id: "ingest.quarantine", severity: Severity::Degraded, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_share_is_told_and_a_stray_message_is_not() {
        let told = |readings, quarantined| verdict(Share { readings, quarantined }).map(|issue| issue.text);
        assert_eq!(told(0, 0), None);
        assert_eq!(told(0, 4), None);
        assert_eq!(told(46, 5), None, "9 %");
        assert!(told(45, 5).is_some_and(|text| text.starts_with("5 of the last 50 messages (10 %)")));
        assert!(told(0, 5).is_some());
    }

    #[test]
    fn the_share_is_that_of_lately() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::begin(start, Duration::from_secs(60));
        let broken = Share { readings: 0, quarantined: 12 };
        assert_eq!(window.look(after(60), broken), broken);
        let mended = Share { readings: 24, quarantined: 12 };
        assert_eq!(window.look(after(180), mended), Share { readings: 24, quarantined: 0 });
        assert_eq!(
            window.look(after(181), mended),
            Share { readings: 24, quarantined: 0 },
            "two looks at once are one"
        );
    }
}
