//! Wind in words.
//!
//! Owns the Beaufort scale and the names of directions.

/// Lower ends of the Beaufort numbers 1 to 12, metres per second, at 10 m above ground (WMO-No. 8, part I, chapter 5, table 5.1).
const BEAUFORT_M_S: [f64; 12] = [0.3, 1.6, 3.4, 5.5, 8.0, 10.8, 13.9, 17.2, 20.8, 24.5, 28.5, 32.7];
const BEAUFORT_WORDS: [&str; 13] = [
    "calm",
    "light air",
    "light breeze",
    "gentle breeze",
    "moderate breeze",
    "fresh breeze",
    "strong breeze",
    "near gale",
    "gale",
    "strong gale",
    "storm",
    "violent storm",
    "hurricane",
];
const POINTS: [&str; 16] =
    ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"];

/// Returns the Beaufort number of a wind speed, metres per second, and its word.
pub fn beaufort(m_s: f64) -> (usize, &'static str) {
    // It is told by tenths.
    let number = BEAUFORT_M_S.iter().filter(|lower| (m_s * 10.0).round() / 10.0 >= **lower).count();
    (number, BEAUFORT_WORDS[number])
}

/// Returns the name of a direction, degrees, of sixteen.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 15")]
pub fn compass(degrees: f64) -> &'static str {
    let point = (degrees.rem_euclid(360.0) / 22.5).round() as usize;
    POINTS[point % POINTS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WMO-No. 8, part I, chapter 5, table 5.1.
    #[test]
    fn the_beaufort_scale() {
        for (m_s, number, word) in [
            (0.2, 0, "calm"),
            (0.3, 1, "light air"),
            (3.3, 2, "light breeze"),
            (5.5, 4, "moderate breeze"),
            (17.1, 7, "near gale"),
            (17.2, 8, "gale"),
            (32.6, 11, "violent storm"),
            (32.7, 12, "hurricane"),
            (113.2, 12, "hurricane"),
        ] {
            assert_eq!(beaufort(m_s), (number, word), "{m_s} m/s");
        }
    }

    #[test]
    fn directions_have_names() {
        for (degrees, name) in
            [(0.0, "N"), (11.0, "N"), (11.5, "NNE"), (96.0, "E"), (225.0, "SW"), (349.0, "N"), (360.0, "N")]
        {
            assert_eq!(compass(degrees), name, "{degrees}");
        }
    }
}
