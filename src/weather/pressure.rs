//! The pressure's tendency in words.
//!
//! Owns the borders between them: those of the UK Met Office's marine glossary, for 3 hours.

/// Returns the word for how the pressure changed within 3 hours, hectopascal.
pub fn tendency_word(change_hpa: f64) -> &'static str {
    // It is told by tenths.
    let tenths = (change_hpa * 10.0).round();
    match (tenths < 0.0, tenths.abs()) {
        (_, tenths) if tenths < 1.0 => "steady",
        (true, tenths) if tenths <= 15.0 => "falling slowly",
        (true, tenths) if tenths <= 35.0 => "falling",
        (true, tenths) if tenths <= 60.0 => "falling quickly",
        (true, _) => "falling very rapidly",
        (false, tenths) if tenths <= 15.0 => "rising slowly",
        (false, tenths) if tenths <= 35.0 => "rising",
        (false, tenths) if tenths <= 60.0 => "rising quickly",
        (false, _) => "rising very rapidly",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UK Met Office, marine forecasts glossary: slowly 0.1 to 1.5, 1.6 to 3.5, quickly 3.6 to 6.0, very rapidly above.
    #[test]
    fn the_terms_of_the_met_office() {
        for (hpa, word) in [
            (0.04, "steady"),
            (0.1, "rising slowly"),
            (1.5, "rising slowly"),
            (-1.6, "falling"),
            (3.5, "rising"),
            (-3.6, "falling quickly"),
            (6.0, "rising quickly"),
            (-6.1, "falling very rapidly"),
        ] {
            assert_eq!(tendency_word(hpa), word, "{hpa} hPa");
        }
    }
}
