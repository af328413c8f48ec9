//! Counters that only rise, and what they do all the same: wrap at 16 or 32 bits, start anew, or say something that is not so.
//!
//! Owns the rule by which these are told apart: a plausible rate. A value that the last good one can have risen to is good. A
//! value that it can have risen to past a wrap is good, too. Any other is *held*: nothing is made of it until the next one
//! says which was right. If that goes on from the last good value, the held one was a glitch and is forgotten; if it goes on
//! from the held one, the counter had started anew, and counts from there. So a single wrong value makes no rain, and a restart
//! loses no more than what nobody counted. A wrong value that was near enough to be believed is known by the next one, which falls
//! back to before it: then what was counted too much is taken back.

/// Where counters wrap.
const WRAPS: [f64; 2] = [65_536.0, 4_294_967_296.0];

/// How much a counter can rise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limits {
    /// Tips of a rain gauge: 2 at once, 2.5 a second, and no more than a cloudburst brings.
    Rain,
    /// Closures of an anemometer, so many a second at most.
    Wind(f64),
}

/// How much smaller a rise past a wrap has to be than any other: a restart from near the end looks the same.
const WRAP_SHARE: f64 = 1.0 / 3.0;

impl Limits {
    /// Returns how much it can rise within so many seconds.
    ///
    /// Rain: 2.5 tips of 0.2794 mm a second are 0.7 mm, above the record of 31.2 mm within a minute (Unionville, 1956; WMO World
    /// Weather and Climate Extremes Archive). Over longer times it is the envelope of the world's records, 422 · D^0.475 mm for D
    /// hours (WMO-No. 1045), in tips of 0.2 mm.
    pub fn rise_max(self, seconds: f64) -> f64 {
        match self {
            Limits::Rain => (2.0 + 2.5 * seconds).min(2.0 + 422.0 * (seconds / 3_600.0).powf(0.475) / 0.2),
            Limits::Wind(counts_max) => counts_max * seconds,
        }
    }
}

/// What a value meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is the first, and means nothing yet.
    First,
    /// The counter rose, or stood still.
    Rise,
    /// It rose past its end.
    Wrap,
    /// It had started anew, as this value confirms.
    Reset,
    /// It went on as before; the value that was held was a glitch.
    Glitch,
    /// It is held until the next one.
    Held,
}

/// What came of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// How much the counter rose, counts; below 0 where it takes back what a glitch had made too much.
    pub rise: f64,
    /// Since when, Unix seconds.
    pub since_s: i64,
    /// What the value meant.
    pub kind: Kind,
}

impl Step {
    /// Tells whether the counter did something else than count.
    pub fn is_doubtful(self) -> bool {
        matches!(self.kind, Kind::Reset | Kind::Glitch)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    time_s: i64,
    value: f64,
}

/// A counter, as its values come in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter {
    limits: Limits,
    good: Option<Point>,
    /// The good one before that, and how much was counted from there to it.
    before: Option<(Point, f64)>,
    held: Option<Point>,
}

impl Counter {
    /// Begins without a value.
    pub fn new(limits: Limits) -> Counter {
        Counter { limits, good: None, before: None, held: None }
    }

    /// Takes the next value; one that is no count is held for good. Times that do not go on count as a second later.
    pub fn next(&mut self, time_s: i64, value: f64) -> Step {
        let point = Point { time_s, value };
        if !value.is_finite() || value < 0.0 {
            return Step { rise: 0.0, since_s: time_s, kind: Kind::Held };
        }
        let Some(good) = self.good else {
            self.good = Some(point);
            return Step { rise: 0.0, since_s: time_s, kind: Kind::First };
        };
        let going_on = self.going_on(good, point).or_else(|| self.taken_back(point));
        let anew = self.held.and_then(|held| self.anew(good, held, point));
        let is_held = self.held.is_some();
        let step = match (going_on, anew) {
            // Where both can be, the one that makes less of it.
            (Some(on), Some(anew)) if anew.rise < on.rise => anew,
            (Some(on), _) if is_held => Step { kind: Kind::Glitch, ..on },
            (Some(on), _) => on,
            (None, Some(anew)) => anew,
            (None, None) => {
                self.held = Some(point);
                return Step { rise: 0.0, since_s: good.time_s, kind: Kind::Held };
            }
        };
        self.before = match (step.kind, self.before) {
            // The glitch is forgotten, what was before it is not.
            (Kind::Glitch, Some((before, counted))) if step.since_s == before.time_s => {
                Some((before, counted + step.rise))
            }
            _ => Some((good, step.rise)),
        };
        (self.good, self.held) = (Some(point), None);
        step
    }

    /// Returns the step from the last good value, past a wrap perhaps; `None` where it cannot be.
    fn going_on(&self, good: Point, point: Point) -> Option<Step> {
        let max = self.limits.rise_max(seconds(good, point));
        let step = |rise: f64, kind| Step { rise, since_s: good.time_s, kind };
        let rise = point.value - good.value;
        if rise >= 0.0 {
            return (rise <= max).then(|| step(rise, Kind::Rise));
        }
        let past = WRAPS.into_iter().filter(|end| good.value < *end).map(|end| rise + end);
        past.into_iter().find(|rise| *rise <= max * WRAP_SHARE).map(|rise| step(rise, Kind::Wrap))
    }

    /// Returns the step that takes back what the last good value had made too much, where this one falls back to before it.
    fn taken_back(&self, point: Point) -> Option<Step> {
        let (before, counted) = self.before?;
        let rise = point.value - before.value;
        let is_plausible = (0.0..=self.limits.rise_max(seconds(before, point))).contains(&rise);
        is_plausible.then_some(Step { rise: rise - counted, since_s: before.time_s, kind: Kind::Glitch })
    }

    /// Returns the step from a held value, where the counter started anew with it; what it had counted until then is counted
    /// where that is plausible.
    fn anew(&self, good: Point, held: Point, point: Point) -> Option<Step> {
        let rise = point.value - held.value;
        let is_plausible = (0.0..=self.limits.rise_max(seconds(held, point))).contains(&rise);
        let before = if held.value <= self.limits.rise_max(seconds(good, held)) { held.value } else { 0.0 };
        is_plausible.then_some(Step { rise: before + rise, since_s: good.time_s, kind: Kind::Reset })
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds between two readings")]
fn seconds(before: Point, after: Point) -> f64 {
    after.time_s.saturating_sub(before.time_s).max(1) as f64
}

#[cfg(test)]
#[path = "counter_tests.rs"]
mod tests;
