//! Files of users: the hub's own and Mosquitto's, both lines of `NAME:HASH`.
//!
//! Owns the format, and which hash a login is verified against. It reads and never writes; no error repeats a hash.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::passwords::Hash;

/// Users in one file, at most.
const USERS_MAX: usize = 10_000;
/// Longest name, bytes: what MQTT's length of a text allows.
const NAME_BYTES_MAX: usize = 65_535;

/// Users by name.
#[derive(Clone, Debug, Default)]
pub struct Users(BTreeMap<Arc<str>, Hash>);

impl Users {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Every wrong line with its number, counted from 1.
    pub fn parse(text: &str) -> Result<Users, Vec<(usize, String)>> {
        let mut users = Users::default();
        let mut wrong = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if users.0.len() >= USERS_MAX {
                wrong.push((index + 1, format!("there are more than {USERS_MAX} users")));
                break;
            }
            if let Err(text) = users.take_line(line) {
                wrong.push((index + 1, text));
            }
        }
        if wrong.is_empty() { Ok(users) } else { Err(wrong) }
    }

    fn take_line(&mut self, line: &str) -> Result<(), String> {
        let (name, hash) = line.split_once(':').ok_or("must be NAME:HASH")?;
        let name = name.trim();
        check_name(name)?;
        let hash = Hash::parse(hash.trim())?;
        match self.0.insert(name.into(), hash) {
            None => Ok(()),
            Some(_) => Err(format!("user {name:?} stands here a second time")),
        }
    }

    /// Puts a user in the place of one with the same name, if there is one; tells whether there was.
    pub fn set(&mut self, name: &str, hash: Hash) -> bool {
        self.0.insert(name.into(), hash).is_some()
    }

    /// Takes a user out; tells whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// Tells whether there is such a user.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Adds the users of another file.
    pub(super) fn join(&mut self, others: Users) {
        self.0.extend(others.0);
    }

    /// Returns the user's hash; for a name that nobody has, somebody's, chosen by `lot`, so that the refusal takes as
    /// long as a wrong password does.
    pub(super) fn hash(&self, name: &str, lot: u64) -> Option<(&Hash, Option<&Arc<str>>)> {
        if let Some((name, hash)) = self.0.get_key_value(name) {
            return Some((hash, Some(name)));
        }
        let count = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        let index = usize::try_from(lot.checked_rem(count)?).unwrap_or_default();
        self.0.values().nth(index).map(|hash| (hash, None))
    }

    /// Returns the file's text; users whose hash is not the hub's own sort are left out.
    pub fn text(&self) -> String {
        let lines = self.0.iter().filter_map(|(name, hash)| hash.text().map(|hash| format!("{name}:{hash}\n")));
        lines.collect()
    }

    /// Returns the names of users whose hash is not the hub's own sort.
    pub(super) fn foreign(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().filter(|(_, hash)| hash.text().is_none()).map(|(name, _)| name)
    }
}

/// Tells what is wrong with a user's name.
///
/// # Errors
/// What is wrong, in words.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let is_plain = |letter: char| letter != ':' && !letter.is_control();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.trim() != name || name.starts_with('#') {
        return Err("a user's name has 1 to 65535 bytes, no space at either end and no '#' at its start");
    }
    if !name.chars().all(is_plain) {
        return Err("a user's name has no ':' and no control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(name: &str) -> String {
        format!("{name}:{}\n", Hash::make(b"secret").unwrap().text().unwrap())
    }

    #[test]
    fn a_file_is_read_with_its_comments_and_written_as_it_was() {
        let (first, second) = (line("été"), line("a b"));
        let users = Users::parse(&format!("# users\n\n{first}\r\n{second}")).unwrap();
        assert_eq!(users.names().map(|name| &**name).collect::<Vec<_>>(), ["a b", "été"]);
        assert_eq!(users.text(), format!("{second}{first}"));
    }

    #[test]
    fn every_wrong_line_is_told_with_its_number_and_without_its_hash() {
        let good = line("good");
        let text = format!("nobody\n{good}:secret1\nplain:secret2\n{good}bell\x07:secret3\nempty:\n");
        let wrong = Users::parse(&text).unwrap_err();
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7]);
        assert!(!format!("{wrong:?}").contains("secret"), "{wrong:?}");
    }

    #[test]
    fn a_name_that_nobody_has_is_verified_against_somebodys_hash() {
        let users = Users::parse(&(line("a") + &line("b"))).unwrap();
        assert_eq!(users.hash("a", 7).unwrap().1.unwrap().as_ref(), "a");
        let stand_ins: Vec<_> = (0..2).map(|lot| users.hash("nobody", lot).unwrap()).collect();
        assert!(stand_ins.iter().all(|(_, name)| name.is_none()));
        assert_ne!(stand_ins[0].0, stand_ins[1].0);
        assert!(Users::default().hash("nobody", 3).is_none());
    }

    #[test]
    fn names_that_would_break_the_file_are_refused() {
        for name in ["", " a", "a ", "a:b", "a\nb", "#a", "a\u{7f}"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "a b", "été", "a#", "$a"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
