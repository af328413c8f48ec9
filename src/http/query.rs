//! The query of a URL.
//!
//! Owns its syntax: each key once, and none that nobody asked for, so that a typing error is told and not passed over.

use percent_encoding::percent_decode_str;

use crate::weather::units::Units;

/// A query, of which each key is taken once.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    /// Reads what stands behind the question mark.
    ///
    /// # Errors
    /// Words for whoever asked.
    pub(super) fn read(text: Option<&str>) -> Result<Query, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                let text = text.replace('+', " ");
                let decoded = percent_decode_str(&text).decode_utf8().map(|text| text.into_owned());
                decoded.map_err(|_| format!("`{key}` is no UTF-8"))
            };
            let (key, value) = (decode(key)?, decode(value)?);
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(format!("`{key}` stands twice"));
            }
            pairs.push((key, value));
        }
        Ok(Query { pairs, known: Vec::new() })
    }

    /// Takes the value of a key, where it has one.
    pub(super) fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        let place = self.pairs.iter().position(|(other, _)| other == key)?;
        Some(self.pairs.swap_remove(place).1)
    }

    /// Takes the value of a key, as `parse` reads it.
    ///
    /// # Errors
    /// Words for whoever asked.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.take(key).map(|value| parse(&value).map_err(|text| format!("`{key}` {text}"))).transpose()
    }

    /// Takes `units`; `usual` where nothing is said.
    ///
    /// # Errors
    /// Words for whoever asked.
    pub(super) fn units(&mut self, usual: Units) -> Result<Units, String> {
        let named = |text: &str| Units::named(text).ok_or_else(|| "must be metric, imperial or si".to_owned());
        Ok(self.parsed("units", named)?.unwrap_or(usual))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Names a key that nobody asked for.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, _)) if self.known.is_empty() => {
                Err(format!("there is no `{key}`: nothing can be asked for here"))
            }
            Some((key, _)) => Err(format!("there is no `{key}`, only {}", self.known.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_query_is_read_and_what_nobody_knows_is_refused() {
        let mut query = Query::read(Some("from=2025-10-03&source=a%2Fb+c&")).unwrap();
        assert_eq!(query.take("from").as_deref(), Some("2025-10-03"));
        assert_eq!(query.take("source").as_deref(), Some("a/b c"));
        assert_eq!(query.take("to"), None);
        query.finish().unwrap();
        let mut query = Query::read(Some("form=1")).unwrap();
        query.take("from");
        assert_eq!(query.finish().unwrap_err(), "there is no `form`, only from");
        assert!(Query::read(Some("a=1&a=2")).is_err() && Query::read(Some("a=%ff")).is_err());
        Query::read(None).unwrap().finish().unwrap();
    }
}
