//! What waits for one channel, and what of it goes when.
//!
//! Owns the bound, what supersedes what, grouping and quiet hours. Pure: time is an argument, and nobody is woken here.
//!
//! A repeat that waits is superseded by whatever comes after it in its episode. Beginning and end are not: also of what was
//! over before a channel came back, its owner learns.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::alerts::{Quiet, Severity};
use crate::store::alerts::Notice;

/// Notices that wait for one channel, at most; beyond it, the oldest is dropped.
pub const WAITING_MAX: usize = 1_000;
/// How long quiet hours are waited for at least.
const QUIET_LOOK_MIN: Duration = Duration::from_secs(1);
/// Notices in one message, at most.
pub const GROUP_MAX: usize = 20;

/// A notice that waits, and what is needed before it may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The notice.
    pub notice: Notice,
    /// The number under which its row is noted.
    pub noted: u64,
    /// Whether it waits behind all others, since its receiver does not take it as it is.
    pub is_deferred: bool,
}

/// Why a notice is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A newer one says more.
    Superseded,
    /// There was no room.
    Dropped,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send these in one message.
    Send(Vec<Waiting>),
    /// Look again after this time.
    Wait(Duration),
    /// Nothing waits.
    Idle,
}

/// When a channel's notices go.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// How long a notice waits for others to go with it; `None` for one message each, at once.
    pub group: Option<Duration>,
    /// When only critical ones go.
    pub quiet: Option<Quiet>,
}

/// The notices that wait, oldest first.
#[derive(Debug, Default)]
pub struct Line(VecDeque<Waiting>);

impl Line {
    /// Adds a notice; returns what is never to be sent for it.
    pub fn push(&mut self, waiting: Waiting) -> Vec<(Notice, Fate)> {
        let episode = waiting.notice.episode;
        // Beginning and end stay in their order.
        let is_deferred = self.0.iter().any(|other| other.notice.episode == episode && other.is_deferred);
        let waiting = Waiting { is_deferred, ..waiting };
        let mut gone = self.take(|notice| notice.episode == episode && is_repeat(notice), Fate::Superseded);
        if self.0.len() >= WAITING_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            gone.push((oldest.notice, Fate::Dropped));
        }
        self.0.push_back(waiting);
        gone
    }

    /// Takes out what was sent; returns what is never to be sent because of it: what is older in the same episodes.
    pub fn sent(&mut self, sent: &[Waiting]) -> Vec<(Notice, Fate)> {
        let mut superseded = Vec::new();
        let (mut left, mut newer) = (VecDeque::new(), Vec::new());
        // From the newest on: by their place, as two of one millisecond have one time.
        for waiting in self.0.drain(..).rev() {
            let episode = waiting.notice.episode;
            if sent.contains(&waiting) {
                newer.push(episode);
            } else if newer.contains(&episode) {
                superseded.push((waiting.notice, Fate::Superseded));
            } else {
                left.push_front(waiting);
            }
        }
        self.0 = left;
        superseded
    }

    /// Lets all of an episode wait behind the others.
    pub fn defer(&mut self, episode: i64) {
        self.0.iter_mut().filter(|waiting| waiting.notice.episode == episode).for_each(|waiting| {
            waiting.is_deferred = true;
        });
    }

    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells what is to be done now; at most `group_max` notices go in one message.
    pub fn next(&self, manners: &Manners, group_max: usize, now_ms: i64) -> Next {
        if self.0.is_empty() {
            return Next::Idle;
        }
        let quiet_end_ms = manners.quiet.as_ref().and_then(|quiet| quiet.ends_ms(now_ms));
        let may_go = |waiting: &&Waiting| quiet_end_ms.is_none() || waiting.notice.severity == Severity::Critical;
        let ready = self.0.iter().filter(may_go).filter(|waiting| !waiting.is_deferred);
        let ready: Vec<&Waiting> = ready.take(group_max).collect();
        let Some(oldest) = ready.first() else {
            if let Some(deferred) = self.0.iter().find(|waiting| may_go(waiting) && waiting.is_deferred) {
                return Next::Send(vec![deferred.clone()]);
            }
            // An hour that comes twice ends twice: it is not looked at again and again until the second end.
            return Next::Wait(millis(quiet_end_ms.unwrap_or(now_ms).saturating_sub(now_ms)).max(QUIET_LOOK_MIN));
        };
        let Some(group) = manners.group else {
            return Next::Send(vec![(*oldest).clone()]);
        };
        // A clock that was set back must not keep a notice for longer.
        let age = millis(now_ms.saturating_sub(oldest.notice.made_ms));
        if age < group && ready.len() < group_max && oldest.notice.made_ms <= now_ms {
            return Next::Wait(group - age);
        }
        Next::Send(ready.into_iter().cloned().collect())
    }

    fn take(&mut self, which: impl Fn(&Notice) -> bool, fate: Fate) -> Vec<(Notice, Fate)> {
        let (gone, left): (VecDeque<_>, VecDeque<_>) = self.0.drain(..).partition(|waiting| which(&waiting.notice));
        self.0 = left;
        gone.into_iter().map(|waiting| (waiting.notice, fate)).collect()
    }
}

fn is_repeat(notice: &Notice) -> bool {
    notice.what.starts_with("repeat")
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use jiff::civil::time;
    use jiff::tz::TimeZone;

    use super::*;

    fn waiting(episode: i64, what: &str, made_ms: i64) -> Waiting {
        let notice = Notice {
            episode,
            what: what.to_owned(),
            rule: "r".into(),
            subject: "s".into(),
            severity: Severity::Warning,
            text: "t".to_owned(),
            made_ms,
        };
        Waiting { notice, noted: 0, is_deferred: false }
    }

    fn critical(waiting: Waiting) -> Waiting {
        Waiting { notice: Notice { severity: Severity::Critical, ..waiting.notice }, ..waiting }
    }

    fn line(all: &[Waiting]) -> Line {
        let mut line = Line::default();
        for waiting in all {
            line.push(waiting.clone());
        }
        line
    }

    fn whats(gone: Vec<(Notice, Fate)>) -> Vec<(String, Fate)> {
        gone.into_iter().map(|(notice, fate)| (notice.what, fate)).collect()
    }

    fn grouped(s: u64) -> Manners {
        Manners { group: Some(Duration::from_secs(s)), quiet: None }
    }

    #[test]
    fn what_fires_together_goes_together() {
        let (first, second) = (waiting(1, "firing", 0), waiting(2, "firing", 9_000));
        let line = line(&[first.clone(), second.clone()]);
        assert_eq!(line.next(&grouped(10), GROUP_MAX, 9_000), Next::Wait(Duration::from_secs(1)));
        assert_eq!(line.next(&grouped(10), GROUP_MAX, 10_000), Next::Send(vec![first.clone(), second]));
        assert_eq!(line.next(&Manners::default(), GROUP_MAX, 9_000), Next::Send(vec![first]), "a log gathers nothing");
        assert_eq!(Line::default().next(&grouped(10), GROUP_MAX, 0), Next::Idle);
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing() {
        let late = waiting(1, "firing", 3_600_000);
        assert_eq!(line(std::slice::from_ref(&late)).next(&grouped(10), GROUP_MAX, 0), Next::Send(vec![late]));
    }

    #[test]
    fn quiet_hours_keep_all_that_is_not_critical_until_they_end() {
        let quiet = Quiet { from: time(22, 0, 0, 0), to: time(7, 0, 0, 0), zone: TimeZone::UTC };
        let manners = Manners { group: Some(Duration::ZERO), quiet: Some(quiet) };
        let (hour, night) = (3_600_000, 23 * 3_600_000);
        let kept = waiting(1, "firing", night);
        let mut line = line(std::slice::from_ref(&kept));
        assert_eq!(line.next(&manners, GROUP_MAX, night), Next::Wait(Duration::from_secs(8 * 3600)));
        let urgent = critical(waiting(2, "firing", night));
        line.push(urgent.clone());
        assert_eq!(line.next(&manners, GROUP_MAX, night), Next::Send(vec![urgent.clone()]));
        assert_eq!(whats(line.sent(&[urgent])), []);
        assert_eq!(line.next(&manners, GROUP_MAX, night + 8 * hour), Next::Send(vec![kept]));
    }

    #[test]
    fn a_repeat_is_superseded_and_a_beginning_is_not() {
        let mut line = line(&[waiting(1, "firing", 0), waiting(1, "repeat 1", 1)]);
        assert_eq!(whats(line.push(waiting(1, "repeat 2", 2))), [("repeat 1".to_owned(), Fate::Superseded)]);
        assert_eq!(whats(line.push(waiting(2, "resolved", 3))), []);
        assert_eq!(whats(line.push(waiting(1, "resolved", 4))), [("repeat 2".to_owned(), Fate::Superseded)]);
        assert_eq!(line.len(), 3);
    }

    #[test]
    fn what_was_said_louder_is_not_said_again_in_the_morning() {
        let (quiet, loud) = (waiting(1, "firing", 0), critical(waiting(1, "repeat 1", 5)));
        let mut line = line(&[quiet, loud.clone()]);
        assert_eq!(whats(line.sent(&[loud])), [("firing".to_owned(), Fate::Superseded)]);
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn an_end_in_the_millisecond_of_its_beginning_is_told_all_the_same() {
        let (first, second) = (waiting(1, "firing", 7), waiting(1, "resolved", 7));
        let mut line = line(&[first.clone(), second.clone()]);
        assert_eq!(whats(line.sent(&[first])), []);
        assert_eq!(line.next(&Manners::default(), GROUP_MAX, 7), Next::Send(vec![second]));
    }

    #[test]
    fn what_a_receiver_does_not_take_waits_behind_all_others_in_its_order() {
        let mut line = line(&[waiting(1, "firing", 0), waiting(2, "firing", 1)]);
        line.defer(1);
        line.push(waiting(1, "resolved", 2));
        let next = |line: &Line| match line.next(&grouped(0), GROUP_MAX, 9) {
            Next::Send(group) => group,
            other => panic!("{other:?}"),
        };
        assert_eq!(next(&line), [waiting(2, "firing", 1)]);
        line.sent(&[waiting(2, "firing", 1)]);
        let deferred = next(&line);
        assert_eq!((deferred.len(), deferred[0].notice.what.as_str()), (1, "firing"));
    }

    #[test]
    fn a_channel_that_never_comes_back_takes_bounded_room() {
        let mut line = Line::default();
        let dropped: usize = (0..WAITING_MAX as i64 + 5)
            .map(|episode| line.push(waiting(episode, "firing", episode)))
            .map(|gone| gone.iter().filter(|(_, fate)| *fate == Fate::Dropped).count())
            .sum();
        assert_eq!((line.len(), dropped), (WAITING_MAX, 5));
        let Next::Send(group) = line.next(&grouped(1), GROUP_MAX, i64::MAX) else { panic!("nothing to send") };
        assert_eq!(group.len(), GROUP_MAX);
    }
}
