//! What a rule makes of what was observed: does its condition hold, how much does it matter, and in which words.
//!
//! Owns hysteresis and these words. Pure: no clock, no I/O; whether it has held for long enough is `episode`'s.

use std::fmt::Write;

use crate::config::alerts::{Condition, Limit, Rule, Severity};
use crate::health::checks::{self, CHECKS, Finding};
use crate::topic;

/// What a rule found on one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether its condition holds.
    pub holds: bool,
    /// How much it matters.
    pub severity: Severity,
    /// What is the case, in words.
    pub text: String,
}

/// Judges a value of a quantity; `firing` says whether the rule has been telling of its source.
pub fn of_value(rule: &Rule, limit: &Limit, source: &str, value: f64, firing: bool) -> Found {
    let number = limit.clear.filter(|_| firing).unwrap_or(limit.number);
    let text = format!("{} is {value} on {source} (limit: {limit})", limit.quantity.name());
    Found { holds: limit.comparison.holds(value, number), severity: rule.severity.unwrap_or(Severity::Warning), text }
}

/// Judges what a check found on one subject; it may be several things, or nothing.
pub fn of_findings(rule: &Rule, found: &[&Finding]) -> Found {
    let worst = found.iter().map(|finding| finding.severity).min();
    let severity = match worst {
        Some(checks::Severity::Failing) => Severity::Critical,
        _ => Severity::Warning,
    };
    let texts: Vec<&str> = found.iter().map(|finding| finding.text.as_str()).collect();
    Found { holds: !found.is_empty(), severity: rule.severity.unwrap_or(severity), text: texts.join("; ") }
}

/// Tells whether a rule is about a subject.
pub fn concerns(rule: &Rule, subject: &str) -> bool {
    let of_check = |check: &str| subject == check || subject.strip_prefix(check).is_some_and(|of| of.starts_with('/'));
    match &rule.condition {
        Condition::Check(Some(check)) => of_check(check),
        Condition::Check(None) => CHECKS.into_iter().any(of_check),
        Condition::Quantity(limit) => {
            !CHECKS.into_iter().any(of_check)
                && limit.source.as_deref().is_none_or(|filter| topic::matches(filter, subject))
        }
    }
}

/// Tells whether two rules are about the same check or quantity.
pub fn are_about_the_same(one: &Rule, other: &Rule) -> bool {
    match (&one.condition, &other.condition) {
        (Condition::Check(one), Condition::Check(other)) => one == other,
        (Condition::Quantity(one), Condition::Quantity(other)) => one.quantity == other.quantity,
        _ => false,
    }
}

/// Says how long something took, in at most two units.
pub fn lasted(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let units = [("d", 86_400, i64::MAX), ("h", 3_600, 24), ("min", 60, 60), ("s", 1, 60)];
    let Some(first) = units.iter().position(|(_, size, _)| seconds >= *size) else { return "0 s".to_owned() };
    units[first..].iter().take(2).fold(String::new(), |mut text, (name, size, below)| {
        let count = (seconds / size) % below;
        if count > 0 {
            let space = if text.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            write!(text, "{space}{count} {name}").unwrap_or_default();
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::alerts::Comparison;
    use crate::reading::Quantity;

    fn rule(limit: Limit) -> Rule {
        Rule {
            name: "frost".to_owned(),
            condition: Condition::Quantity(limit),
            hold: Duration::ZERO,
            repeat: None,
            severity: Some(Severity::Info),
            channels: vec![0],
        }
    }

    fn holds(comparison: Comparison, clear: Option<f64>, value: f64, firing: bool) -> bool {
        let limit = Limit { quantity: Quantity::Temperature, comparison, number: -20.0, clear, source: None };
        of_value(&rule(limit.clone()), &limit, "garden", value, firing).holds
    }

    #[test]
    fn a_value_between_limit_and_clear_neither_begins_nor_ends_an_alert() {
        use Comparison::{Above, AtLeast, AtMost, Below};
        for (comparison, clear, between, near) in [
            (Below, -18.0, -19.0, -18.0),
            (AtMost, -18.0, -19.0, -17.9),
            (Above, -22.0, -21.0, -22.0),
            (AtLeast, -22.0, -21.0, -22.1),
        ] {
            assert!(!holds(comparison, Some(clear), between, false), "{comparison:?} begins");
            assert!(holds(comparison, Some(clear), between, true), "{comparison:?} ends");
            assert!(!holds(comparison, Some(clear), near, true), "{comparison:?} never ends");
            assert!(!holds(comparison, None, between, true), "{comparison:?} without clear");
        }
        assert!(holds(AtMost, None, -20.0, false) && !holds(Below, None, -20.0, false));
    }

    #[test]
    fn the_worst_issue_decides_how_much_it_matters_unless_the_rule_does() {
        let issue = |severity| {
            let (check, text) = ("store.write", "t".to_owned());
            Finding { check, subject: check.into(), severity, text }
        };
        let (failing, degraded) = (issue(checks::Severity::Failing), issue(checks::Severity::Degraded));
        let any = Rule { condition: Condition::Check(None), severity: None, ..rule_of_check() };
        assert_eq!(of_findings(&any, &[&degraded, &failing]).severity, Severity::Critical);
        assert_eq!(of_findings(&any, &[&degraded]).severity, Severity::Warning);
        assert_eq!(of_findings(&rule_of_check(), &[&failing]).severity, Severity::Info);
        assert!(!of_findings(&any, &[]).holds);
    }

    fn rule_of_check() -> Rule {
        let limit =
            Limit { quantity: Quantity::X, comparison: Comparison::Above, number: 0.0, clear: None, source: None };
        Rule { condition: Condition::Check(None), ..rule(limit) }
    }

    #[test]
    fn a_time_is_told_in_two_units() {
        let texts = [0, 999, 59_000, 61_000, 3_600_000, 3_725_000, 90_000_000, 86_460_000].map(lasted);
        assert_eq!(texts, ["0 s", "0 s", "59 s", "1 min 1 s", "1 h", "1 h 2 min", "1 d 1 h", "1 d"]);
    }
}
