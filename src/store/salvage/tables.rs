//! Which table a row belongs to, and what its columns are called.
//!
//! Owns the shapes of the tables that are salvaged. A row that a tree leads to is taken as its table's where it can be; one that
//! none leads to, or that does not fit, has to fit the shape of one table, column for column. Pure.

use rusqlite::types::Value;

/// The tables that are salvaged: those that hold what cannot be had again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Source,
    Weather,
    Magnetic,
    Quarantine,
    Run,
    Event,
    Episode,
    Notice,
    Outbox,
}

/// What a column may hold.
#[derive(Clone, Copy)]
enum Column {
    /// The row's own number.
    Id,
    Whole,
    WholeOrNull,
    Number,
    NumberOrNull,
    Text,
    TextOrNull,
    /// `YYYY-MM-DD HH:MM:SS`.
    TimeOrNull,
    Blob,
}

use Column::{Blob, Id, Number, NumberOrNull, Text, TextOrNull, TimeOrNull, Whole, WholeOrNull};

/// Columns that were added at the end of the station's tables, by hubs or by others.
const ADDED_MAX: usize = 16;

impl Table {
    /// All of them; those that others name by number come first, and what is sent on comes last.
    pub(crate) const ALL: [Table; 9] = [
        Table::Source,
        Table::Weather,
        Table::Magnetic,
        Table::Quarantine,
        Table::Run,
        Table::Event,
        Table::Episode,
        Table::Notice,
        Table::Outbox,
    ];

    /// Returns its name in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Source => "source",
            Table::Weather => "weather_data",
            Table::Magnetic => "magnetic_flux_data",
            Table::Quarantine => "quarantine",
            Table::Run => "run",
            Table::Event => "event",
            Table::Episode => "alert_episode",
            Table::Notice => "alert_notice",
            Table::Outbox => "outbox",
        }
    }

    /// Returns the table of this name.
    pub(crate) fn of_name(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Returns how many columns every hub's table has, its number aside.
    pub(crate) fn columns_min(self) -> usize {
        let (columns, may_lack) = self.shape();
        columns.len() - may_lack - usize::from(self != Table::Notice)
    }

    /// Returns its first columns, and how many of them a row may lack, as those of older hubs do.
    fn shape(self) -> (&'static [Column], usize) {
        match self {
            Table::Source => (&[Id, Text, Whole, WholeOrNull], 1),
            Table::Weather => (
                &[
                    Id,
                    Whole,
                    WholeOrNull,
                    NumberOrNull,
                    NumberOrNull,
                    NumberOrNull,
                    NumberOrNull,
                    NumberOrNull,
                    WholeOrNull,
                    WholeOrNull,
                    TimeOrNull,
                ],
                0,
            ),
            Table::Magnetic => (&[Id, Number, Number, Number, TimeOrNull], 0),
            Table::Quarantine => (&[Id, Whole, Text, Text, Whole, Text, Text, Blob], 0),
            Table::Run => (&[Id, Text, Whole, Whole, WholeOrNull], 0),
            Table::Event => (&[Id, Whole, Text, Text, WholeOrNull], 0),
            Table::Episode => (&[Id, Text, Text, Text, Text, Whole, WholeOrNull, WholeOrNull, Whole, Whole], 0),
            Table::Notice => (&[Whole, Text, Text, Text, Text, Whole, WholeOrNull, TextOrNull], 0),
            Table::Outbox => (&[Id, Whole, Text, Whole, Blob, TextOrNull, TextOrNull], 2),
        }
    }

    /// Tells whether a row has this table's shape.
    fn fits(self, values: &[Value]) -> bool {
        let (columns, may_lack) = self.shape();
        let added = if matches!(self, Table::Weather | Table::Magnetic) { ADDED_MAX } else { 0 };
        let (least, most) = (columns.len() - may_lack, columns.len() + added);
        let first = values.iter().zip(columns).all(|(value, &column)| holds(column, value));
        let rest = values.iter().skip(columns.len()).all(|value| holds(WholeOrNull, value));
        (least..=most).contains(&values.len()) && first && rest
    }

    /// Tells whether a row can be one of this table's: what must not be missing is there.
    fn may_have(self, values: &[Value]) -> bool {
        let (columns, may_lack) = self.shape();
        let is_there = |(value, column): (&Value, &Column)| match column {
            Whole | Number | Text | Blob => *value != Value::Null,
            // The row's number stands elsewhere: its column, should it be damaged, says nothing.
            Id | WholeOrNull | NumberOrNull | TextOrNull | TimeOrNull => true,
        };
        values.len() + may_lack >= columns.len() && values.iter().zip(columns).all(is_there)
    }
}

/// Returns whose row this is; `led_from` is the table whose tree leads to it.
pub(crate) fn table_of(values: &[Value], led_from: Option<Table>) -> Option<Table> {
    let fitting = || Table::ALL.into_iter().find(|table| table.fits(values));
    led_from.filter(|table| table.fits(values)).or_else(fitting).or(led_from.filter(|table| table.may_have(values)))
}

fn holds(column: Column, value: &Value) -> bool {
    match (column, value) {
        (Id | WholeOrNull | NumberOrNull | TextOrNull | TimeOrNull, Value::Null) => true,
        // One damaged byte makes these of the NULL, and says nothing of the row.
        (Id, Value::Integer(0 | 1)) => true,
        (Whole | WholeOrNull | Number | NumberOrNull, Value::Integer(_)) => true,
        (Number | NumberOrNull, Value::Real(value)) => value.is_finite(),
        // Wind direction and counters come with a fraction, too, where a sensor sends one.
        (WholeOrNull, Value::Real(value)) => value.is_finite(),
        (Text | TextOrNull, Value::Text(_)) | (Blob, Value::Blob(_)) => true,
        (TimeOrNull, Value::Text(text)) => is_time(text),
        _ => false,
    }
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let fits = |(index, &byte): (usize, &u8)| match index {
        4 | 7 => byte == b'-',
        10 => byte == b' ' || byte == b'T',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit() || index > 18,
    };
    (19..=40).contains(&bytes.len()) && bytes.iter().enumerate().all(fits)
}

/// Returns the names of a table's columns out of the statement that made it; `None` where that is no such statement any more.
pub(crate) fn columns(sql: &str) -> Option<Vec<String>> {
    let sql = without_comments(sql);
    let inside = sql.get(sql.find('(')? + 1..sql.rfind(')')?)?;
    let mut names = Vec::new();
    for part in split(inside).into_iter().map(str::trim) {
        let name = match part.chars().next()? {
            quote @ ('"' | '`' | '\'') => part.get(1..)?.split_once(quote)?.0,
            '[' => part.get(1..)?.split_once(']')?.0,
            _ => part.split([' ', '\t', '\n', '\r', '(']).next()?,
        };
        // What belongs to the table stands behind its columns, and begins with a word that is no name.
        let words = ["constraint", "primary", "unique", "check", "foreign"];
        if words.iter().any(|word| name.eq_ignore_ascii_case(word)) {
            break;
        }
        names.push(name.to_owned());
    }
    (!names.is_empty()).then_some(names)
}

fn without_comments(part: &str) -> String {
    part.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}

/// Splits at the commas that stand in no parentheses and no quotes.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let mut quote = None;
    text.split(move |character| {
        match (character, quote) {
            (end, Some(begun)) if end == begun => quote = None,
            (_, Some(_)) => {}
            ('"' | '`' | '\'', None) => quote = Some(character),
            ('(', None) => depth += 1,
            (')', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0 && quote.is_none()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_names_of_columns_are_read_out_of_a_statement() {
        let sql = "CREATE TABLE a (\n  id INTEGER PRIMARY KEY CHECK (id IN (1, 2)), -- a, b\n \"of, him\" TEXT, [x y] REAL,\n z, \
                   marks INTEGER, UNIQUE (a, b))";
        assert_eq!(columns(sql).unwrap(), ["id", "of, him", "x y", "z", "marks"]);
        assert_eq!(columns("CREATE TABL"), None);
    }

    #[test]
    fn a_stray_row_is_taken_for_what_its_columns_are() {
        let text = |text: &str| Value::Text(text.to_owned());
        let time = text("2026-11-25 20:30:00");
        let flux = vec![Value::Null, Value::Integer(5), Value::Real(-1.5), Value::Integer(0), time.clone()];
        assert_eq!(table_of(&flux, None), Some(Table::Magnetic));
        assert_eq!(table_of(&flux, Some(Table::Weather)), Some(Table::Magnetic));
        let mut weather = vec![Value::Null, Value::Integer(1_764_000_000)];
        weather.extend(std::iter::repeat_n(Value::Null, 8));
        weather.push(time);
        assert_eq!(table_of(&weather, None), Some(Table::Weather));
        weather[2] = text("five");
        assert_eq!(table_of(&weather, None), None);
        assert_eq!(table_of(&weather, Some(Table::Weather)), Some(Table::Weather), "as its tree says");
        let event = vec![Value::Null, Value::Integer(1), text("clock.step"), text("the clock"), Value::Null];
        assert_eq!(table_of(&event, None), Some(Table::Event));
    }
}
