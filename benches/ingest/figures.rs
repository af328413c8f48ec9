//! How figures of several rounds are written: medians, their spread, thousands apart, and a goal's verdict.
//!
//! Owns the words that all benchmarks' reports have in common. It never measures.

/// Judges by the median of the rounds, and tells when not all of them agree with it.
pub(crate) fn goal(name: &str, rounds: Vec<f64>, reached: impl Fn(f64) -> bool) -> String {
    if rounds.is_empty() {
        return format!("| {name} | | not measured |\n");
    }
    let count = rounds.iter().filter(|&&value| reached(value)).count();
    let agreed = if count == 0 || count == rounds.len() {
        String::new()
    } else {
        format!(", but reached in {count} of {} rounds: undecided", rounds.len())
    };
    let verdict = if reached(median(rounds.clone())) { "pass" } else { "**FAIL**" };
    format!("| {name} | {} | {verdict}{agreed} |\n", spread(&rounds))
}

/// Writes a median with the lowest and the highest beside it; nothing for no values, no range for one.
pub(crate) fn spread(values: &[f64]) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values {
        [] => String::new(),
        [only] => format!("{only:.2}"),
        _ => format!("{:.2} ({lowest:.2} to {highest:.2})", median(values.to_vec())),
    }
}

/// Returns the middle of the values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Writes a whole number with commas between its thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
