//! The rhythm of a source: how often it sends, learnt from when it sent.
//!
//! Owns what counts as regular, and the silence that is longer than a source's rhythm explains. Pure: no clock.
//!
//! Readings within a second of each other are one *beat*, so a burst is not a rhythm. The *usual* gap between beats is a high
//! one among the last sixteen, the one or two highest left out: a reading that was lost, or one outage, does not change it. A
//! source is *regular* where its gaps differ by a small factor only; of any other nothing is expected. One that sends in
//! bursts, with a rhythm inside them, falls silent again and again: gaps that were too long twice within a thousand beats are
//! its habit, and are not told any more.

use std::time::Duration;

/// Gaps that are remembered.
const GAPS: usize = 16;
/// Gaps that make a rhythm, at least.
const GAPS_MIN: usize = 5;
/// How much larger than the middle gap the usual one may be, and the middle one than a small one.
const SPREAD_MAX: u32 = 3;
/// Silence is told beyond this many usual gaps, and [`PATIENCE_MS`] more.
const GAPS_SILENT: u32 = 3;
const PATIENCE_MS: u32 = 10_000;
/// Long gaps that are remembered, for this many beats.
const LONG_GAPS: usize = 4;
const LONG_GAP_BEATS: u64 = 1_000;

/// What is known of one source's rhythm.
#[derive(Clone, Debug, Default)]
pub struct Rhythm {
    gaps_ms: [u32; GAPS],
    beats: u64,
    long: [LongGap; LONG_GAPS],
    long_next: usize,
    /// The usual gap of an earlier run, until there is one of this run.
    remembered_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LongGap {
    gap_ms: u32,
    /// Which beat ended it, counted from 1; 0 where there is none.
    beat: u64,
}

impl Rhythm {
    /// Begins with what was learnt in an earlier run.
    pub fn remembered(usual: Duration) -> Rhythm {
        Rhythm { remembered_ms: Some(whole_ms(usual)), ..Rhythm::default() }
    }

    /// Notes a beat, `gap` after the one before.
    pub fn beat(&mut self, gap: Duration) {
        let gap_ms = whole_ms(gap);
        let is_long = self.silence_max().is_some_and(|max| gap > max);
        self.gaps_ms[(self.beats % GAPS as u64) as usize] = gap_ms;
        self.beats += 1;
        if is_long {
            self.long[self.long_next % LONG_GAPS] = LongGap { gap_ms, beat: self.beats };
            self.long_next = self.long_next.wrapping_add(1);
        }
        if self.known() >= GAPS_MIN {
            self.remembered_ms = None;
        }
    }

    /// Returns the usual gap between beats; `None` where the source is not regular, or not known well enough.
    pub fn usual(&self) -> Option<Duration> {
        self.usual_ms().map(|ms| Duration::from_millis(ms.into()))
    }

    /// Returns how long the source may be silent; `None` where nothing is expected of it.
    pub fn silence_max(&self) -> Option<Duration> {
        let by_rhythm = self.usual_ms()?.saturating_mul(GAPS_SILENT).saturating_add(PATIENCE_MS);
        // What happened once was an outage: only the second longest counts.
        let recent = self.long.iter().filter(|long| long.beat > 0 && self.beats - long.beat < LONG_GAP_BEATS);
        let (_, second_ms) = recent.fold((0, 0), |(longest, second), long| match long.gap_ms > longest {
            true => (long.gap_ms, longest),
            false => (longest, long.gap_ms.max(second)),
        });
        let by_habit = second_ms.saturating_add(second_ms / 2);
        Some(Duration::from_millis(by_rhythm.max(by_habit).into()))
    }

    /// Tells whether there is, or was in an earlier run, a rhythm.
    pub fn is_learnt(&self) -> bool {
        self.remembered_ms.is_some() || self.known() >= GAPS_MIN
    }

    fn known(&self) -> usize {
        usize::try_from(self.beats).unwrap_or(GAPS).min(GAPS)
    }

    fn usual_ms(&self) -> Option<u32> {
        let known = self.known();
        if known < GAPS_MIN {
            return self.remembered_ms;
        }
        let mut gaps = self.gaps_ms;
        let gaps = &mut gaps[..known];
        gaps.sort_unstable();
        let (low, middle, usual) = (gaps[known / 4], gaps[known / 2], gaps[known - 1 - known / 8]);
        let is_regular = usual <= middle.saturating_mul(SPREAD_MAX) && middle <= low.saturating_mul(SPREAD_MAX);
        is_regular.then_some(usual)
    }
}

fn whole_ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(gaps_s: impl IntoIterator<Item = f64>) -> Rhythm {
        let mut rhythm = Rhythm::default();
        gaps_s.into_iter().for_each(|gap| rhythm.beat(Duration::from_secs_f64(gap)));
        rhythm
    }

    fn silence_s(rhythm: &Rhythm) -> Option<u64> {
        rhythm.silence_max().map(|max| max.as_secs())
    }

    #[test]
    fn a_regular_source_is_expected_back_after_a_few_of_its_gaps() {
        assert_eq!(silence_s(&after([5.0; 4])), None, "too few");
        assert_eq!(silence_s(&after([5.0; 5])), Some(25));
        assert_eq!(silence_s(&after([5.0; 500])), Some(25));
        assert_eq!(silence_s(&after([3_600.0; 5])), Some(10_810), "once an hour");
        // A third of the readings missing, as on a poor radio link.
        assert_eq!(silence_s(&after([5.0, 10.0, 5.0, 5.0, 10.0, 5.0, 15.0, 5.0])), Some(40));
    }

    #[test]
    fn one_outage_changes_nothing_and_a_new_rhythm_is_learnt() {
        let mut rhythm = after([5.0; 20]);
        rhythm.beat(Duration::from_secs(7_200));
        assert_eq!(silence_s(&rhythm), Some(25));
        (0..16).for_each(|_| rhythm.beat(Duration::from_secs(60)));
        assert_eq!(silence_s(&rhythm), Some(190), "60 s now");
    }

    #[test]
    fn nothing_is_expected_of_a_source_that_comes_as_it_likes() {
        for gaps in [[1.0, 60.0, 3.0, 600.0, 20.0, 2.0, 1_000.0, 40.0], [2.0, 2.0, 900.0, 2.0, 2.0, 900.0, 2.0, 900.0]]
        {
            assert_eq!(silence_s(&after(gaps)), None, "{gaps:?}");
        }
    }

    #[test]
    fn bursts_with_a_rhythm_inside_are_a_habit_after_the_second() {
        // Sixty readings, one each second, and then an hour of nothing.
        let mut rhythm = Rhythm::default();
        let burst = |rhythm: &mut Rhythm| (0..60).for_each(|_| rhythm.beat(Duration::from_secs(1)));
        burst(&mut rhythm);
        assert_eq!(silence_s(&rhythm), Some(13));
        for _ in 0..2 {
            rhythm.beat(Duration::from_secs(3_540));
            burst(&mut rhythm);
        }
        assert_eq!(silence_s(&rhythm), Some(5_310), "its habit");
        (0..20).for_each(|_| burst(&mut rhythm));
        assert_eq!(silence_s(&rhythm), Some(13), "which it has given up");
    }

    #[test]
    fn what_an_earlier_run_learnt_holds_until_this_one_has() {
        let mut rhythm = Rhythm::remembered(Duration::from_secs(5));
        assert_eq!((silence_s(&rhythm), rhythm.is_learnt()), (Some(25), true));
        (0..4).for_each(|_| rhythm.beat(Duration::from_secs(20)));
        assert_eq!(silence_s(&rhythm), Some(25));
        rhythm.beat(Duration::from_secs(20));
        assert_eq!(silence_s(&rhythm), Some(70));
    }
}
