//! Text with fields, such as `{title}`, that a message fills.
//!
//! Owns which fields there are, and how what fills them is escaped for the place where it goes. Pure; it never knows
//! what a message is.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Bytes that stand for themselves in a URL and in a form: RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a template can be filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The message's id, the same however often it is sent.
    Id,
    /// The station's name.
    Station,
    /// The rule's name.
    Rule,
    /// What the rule found it on: a check, or a source.
    Subject,
    /// `firing` or `resolved`.
    State,
    /// `info`, `warning` or `critical`.
    Severity,
    /// One line that says it all.
    Title,
    /// All that is said, in lines.
    Text,
    /// When the message was made, UTC.
    Time,
}

impl Field {
    /// Every field with its name.
    pub const ALL: [(&'static str, Field); 9] = [
        ("id", Field::Id),
        ("station", Field::Station),
        ("rule", Field::Rule),
        ("subject", Field::Subject),
        ("state", Field::State),
        ("severity", Field::Severity),
        ("title", Field::Title),
        ("text", Field::Text),
        ("time", Field::Time),
    ];
}

/// How what fills a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As it is.
    None,
    /// Within a string of JSON.
    Json,
    /// Within a URL or a form.
    Percent,
    /// On one line, without control characters.
    Line,
}

/// A text with fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

impl Template {
    /// Takes a text apart. A name in braces is a field; braces around anything else, as JSON has them, stand for
    /// themselves.
    ///
    /// # Errors
    /// Which name is no field's.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let after = &rest[open + 1..];
            let name = after.split(|letter: char| !letter.is_ascii_lowercase()).next().unwrap_or_default();
            if name.is_empty() || !after[name.len()..].starts_with('}') {
                parts.push(Part::Text(rest[..=open].to_owned()));
                rest = after;
                continue;
            }
            let Some((_, field)) = Field::ALL.iter().find(|(known, _)| *known == name) else {
                let known = Field::ALL.map(|(name, _)| format!("{{{name}}}")).join(", ");
                return Err(format!("{{{name}}} is no field; those are {known}"));
            };
            parts.extend([Part::Text(rest[..open].to_owned()), Part::Field(*field)]);
            rest = &after[name.len() + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Template { text: text.to_owned(), parts })
    }

    /// Returns the text as it was written.
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// Returns the text with its fields filled.
    pub fn fill(&self, value: impl Fn(Field) -> String, escape: Escape) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => escape.apply(&value(*field)),
        };
        self.parts.iter().map(part).collect()
    }
}

impl Escape {
    fn apply(self, value: &str) -> String {
        match self {
            Escape::None => value.to_owned(),
            Escape::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Escape::Percent => percent(value),
            Escape::Line => value.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect(),
        }
    }
}

/// Writes a text so that it can stand in a URL or a form.
pub fn percent(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn filled(text: &str, escape: Escape) -> String {
        let value = |field| if field == Field::Text { "a \"b\"\nü&" } else { "other" }.to_owned();
        Template::parse(text).unwrap().fill(value, escape)
    }

    #[test]
    fn fields_are_escaped_for_where_they_go_and_all_else_stays() {
        let json = filled("{\"t\": {\"text\": \"{text}\"}, \"n\": {}, \"s\": \"{state}\"}", Escape::Json);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["t"]["text"], &value["s"]), (&"a \"b\"\nü&".into(), &"other".into()));
        assert_eq!(filled("to=1&text={text}", Escape::Percent), "to=1&text=a%20%22b%22%0A%C3%BC%26");
        assert_eq!(filled("{text}", Escape::Line), "a \"b\" ü&");
        assert_eq!(filled("{ {text {x1}", Escape::None), "{ {text {x1}");
    }

    #[test]
    fn a_name_that_is_no_field_is_refused() {
        assert!(Template::parse("a {titel}").unwrap_err().starts_with("{titel} is no field; those are {id}, "));
    }
}
