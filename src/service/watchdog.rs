//! The watchdog's verdict: has every part that must move moved?
//!
//! Pure: what was counted and the time are arguments. A part that has work and does not move for longer than its bound is
//! stuck, and then the service manager is to end the hub: by itself it would not come back. A database that is locked or a
//! disk that is full is no standstill: the writer tries, fails, says so, and counts on.

use std::fmt;
use std::time::{Duration, Instant};

/// How long the writer may stand still at least, however short the watchdog's time is: SQLite waits up to 5 s for a lock of
/// another program within one call. It has all of the watchdog's time, twice what others have: a sync may have much to write.
const WRITER_STEP_MAX: Duration = Duration::from_secs(8);
/// The shortest pause between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// What has been counted of each part's progress since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Turns of a task that does nothing but count.
    pub beats: u64,
    /// Messages of the hub's own that came back through the router.
    pub round_trips: u64,
    /// Steps of the writer: a batch taken, a transaction begun or ended.
    pub writer_steps: u64,
    /// Whether the writer has nothing to do.
    pub writer_rests: bool,
}

/// What does not move, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// The hub's tasks are not served.
    MainLoop(Duration),
    /// The router gives nothing back.
    Router(Duration),
    /// One call to the database does not return.
    Writer(Duration),
}

impl fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, since) = match self {
            Stuck::MainLoop(since) => ("the main loop has not come round", since),
            Stuck::Router(since) => ("no message has come back from the message router", since),
            Stuck::Writer(since) => {
                ("the thread that writes to the database hangs in one step: it has not moved", since)
            }
        };
        write!(formatter, "{part} for {} s", since.as_secs())
    }
}

/// One part, as it was seen moving last.
#[derive(Clone, Copy, Debug)]
struct Part {
    count: u64,
    moved: Instant,
}

impl Part {
    fn begin(now: Instant) -> Part {
        Part { count: 0, moved: now }
    }

    /// Takes a count; returns for how long the part has not moved.
    fn look(&mut self, now: Instant, count: u64, is_excused: bool) -> Duration {
        if is_excused || count != self.count {
            (self.count, self.moved) = (count, now);
        }
        now.saturating_duration_since(self.moved)
    }
}

/// All parts, from look to look.
#[derive(Clone, Debug)]
pub struct Watch {
    bound: Duration,
    writer_bound: Duration,
    main_loop: Part,
    router: Part,
    writer: Part,
}

impl Watch {
    /// Begins to watch, for a service manager that waits for `time_max` between two signs of life.
    pub fn begin(now: Instant, time_max: Duration) -> Watch {
        let bound = time_max / 2;
        let part = Part::begin(now);
        Watch { bound, writer_bound: time_max.max(WRITER_STEP_MAX), main_loop: part, router: part, writer: part }
    }

    /// Returns the time between two looks: four in the service manager's time, so that a part that moves again just in
    /// time is seen in time.
    pub fn interval(time_max: Duration) -> Duration {
        (time_max / 4).max(INTERVAL_MIN)
    }

    /// Looks once.
    ///
    /// # Errors
    /// What is stuck.
    pub fn look(&mut self, now: Instant, counts: Counts) -> Result<(), Stuck> {
        let main_loop = self.main_loop.look(now, counts.beats, false);
        // While the tasks do not run, nobody asks the router.
        let router = self.router.look(now, counts.round_trips, !main_loop.is_zero());
        let writer = self.writer.look(now, counts.writer_steps, counts.writer_rests);
        if main_loop >= self.bound {
            return Err(Stuck::MainLoop(main_loop));
        }
        if router >= self.bound {
            return Err(Stuck::Router(router));
        }
        if writer >= self.writer_bound {
            return Err(Stuck::Writer(writer));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_MAX: Duration = Duration::from_secs(60);

    /// Looks four times in each of the service manager's times, `looks` times, and returns the verdicts.
    fn verdicts(looks: u32, counts: impl Fn(u64) -> Counts) -> Vec<Result<(), Stuck>> {
        let begin = Instant::now();
        let mut watch = Watch::begin(begin, TIME_MAX);
        (1..=looks).map(|look| watch.look(begin + Watch::interval(TIME_MAX) * look, counts(look.into()))).collect()
    }

    fn all_move(look: u64) -> Counts {
        Counts { beats: look, round_trips: look, writer_steps: look, writer_rests: false }
    }

    #[test]
    fn what_moves_is_fed_and_a_writer_without_work_need_not_move() {
        assert_eq!(verdicts(20, all_move), [Ok(()); 20]);
        assert_eq!(verdicts(20, |look| Counts { writer_steps: 3, writer_rests: true, ..all_move(look) }), [Ok(()); 20]);
    }

    #[test]
    fn each_part_that_stops_is_named_within_half_of_the_time_and_the_writer_within_all_of_it() {
        let half = TIME_MAX / 2;
        type Case = (fn(u64) -> Counts, Stuck);
        let cases: [Case; 2] = [
            (|look| Counts { beats: look.min(2), round_trips: look.min(2), ..all_move(look) }, Stuck::MainLoop(half)),
            (|look| Counts { round_trips: look.min(2), ..all_move(look) }, Stuck::Router(half)),
        ];
        for (counts, stuck) in cases {
            assert_eq!(verdicts(4, counts), [Ok(()), Ok(()), Ok(()), Err(stuck)]);
        }
        let seen = verdicts(6, |look| Counts { writer_steps: look.min(2), ..all_move(look) });
        assert_eq!(seen[..5], [Ok(()); 5], "a disk may take its time");
        assert_eq!(seen[5], Err(Stuck::Writer(TIME_MAX)));
    }

    #[test]
    fn a_part_that_moves_again_is_fed_again() {
        let seen = verdicts(7, |look| {
            let away = if (3..=5).contains(&look) { 2 } else { look };
            Counts { beats: away, round_trips: away, ..all_move(look) }
        });
        assert_eq!(seen.iter().filter(|verdict| verdict.is_err()).count(), 2, "{seen:?}");
        assert_eq!(seen[5..], [Ok(()), Ok(())], "the router is not blamed for the time in which nobody asked it");
    }

    #[test]
    fn a_call_that_waits_for_a_lock_is_no_standstill_however_short_the_time_is() {
        let begin = Instant::now();
        let mut watch = Watch::begin(begin, Duration::from_secs(2));
        for second in 1..=7 {
            let counts = Counts { writer_steps: 0, ..all_move(second) };
            assert_eq!(watch.look(begin + Duration::from_secs(second), counts), Ok(()));
        }
        let counts = Counts { writer_steps: 0, ..all_move(8) };
        let hangs = Duration::from_secs(8);
        assert_eq!(watch.look(begin + hangs, counts), Err(Stuck::Writer(hangs)));
    }
}
