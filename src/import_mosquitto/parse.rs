//! Reads a mosquitto.conf, with the files of its `include_dir`.
//!
//! Owns the format: a key, a space, the rest of the line is the value. It never knows which keys there are.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::ImportError;

const FILES_MAX: usize = 256;
const BYTES_MAX: u64 = 4 << 20;

/// One line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: Rc<Path>,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
}

impl Setting {
    /// Returns the place and the key, without the value.
    pub(super) fn place(&self) -> String {
        format!("{}:{}: {}", self.file.display(), self.line, self.key)
    }

    /// Tells whether the value is a yes; Mosquitto takes `true` and `1`.
    pub(super) fn is_true(&self) -> bool {
        self.value.eq_ignore_ascii_case("true") || self.value == "1"
    }
}

/// Reads all settings, in Mosquitto's order.
pub(super) fn read(conf: &Path) -> Result<Vec<Setting>, ImportError> {
    let mut reading = Reading { conf: conf.to_owned(), bytes_left: BYTES_MAX, files_left: FILES_MAX };
    let mut all = Vec::new();
    for setting in reading.file(conf)? {
        if setting.key == "include_dir" {
            for included in reading.directory(Path::new(&setting.value))? {
                all.extend(reading.file(&included)?);
            }
        } else {
            all.push(setting);
        }
    }
    Ok(all)
}

/// Takes the settings out of a file's text.
pub(super) fn settings(file: &Path, text: &str) -> Vec<Setting> {
    let file: Rc<Path> = file.into();
    let setting = |(index, line): (usize, &str)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let (key, value) = (key.to_owned(), value.trim().to_owned());
        Some(Setting { file: file.clone(), line: index + 1, key, value })
    };
    text.lines().enumerate().filter_map(setting).collect()
}

/// What may still be read.
struct Reading {
    conf: PathBuf,
    bytes_left: u64,
    files_left: usize,
}

impl Reading {
    fn file(&mut self, path: &Path) -> Result<Vec<Setting>, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path).map_err(failed)?.take(self.bytes_left + 1).read_to_end(&mut bytes).map_err(failed)?;
        let left = self.bytes_left.checked_sub(bytes.len() as u64).zip(self.files_left.checked_sub(1));
        (self.bytes_left, self.files_left) = left.ok_or_else(|| ImportError::TooMuch {
            path: self.conf.clone(),
            bytes_max: BYTES_MAX,
            files_max: FILES_MAX,
        })?;
        Ok(settings(path, &String::from_utf8_lossy(&bytes)))
    }

    /// Returns the files of a directory that Mosquitto includes: those that end in `.conf`, in order.
    fn directory(&self, path: &Path) -> Result<Vec<PathBuf>, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "conf") {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    }
}
