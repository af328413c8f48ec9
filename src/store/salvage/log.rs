//! The write-ahead log, read without SQLite: which of its frames were committed, and whether one of them is damaged.
//!
//! Owns checksums and salts. SQLite takes up a log as far as its first bad frame, and drops the rest without a word. That is
//! right for the torn end of what was being written at a power cut; but where a later transaction stands behind the bad frame,
//! the one with the bad frame was on disk before, and acknowledged. Each frame holds the sum of all before it, so the chain can be taken up
//! behind a bad one: here nothing is dropped that can be read. Reads, and never writes.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0x377f_0682;
/// Frames that are looked at: with pages of 4 KiB, a log of 16 GiB.
const FRAMES_MAX: u64 = 4 << 20;

/// A sum of SQLite's.
type Sum = (u32, u32);

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Where the newest content of a page begins in the file, of all that was committed.
    pub(super) pages: HashMap<u32, u64>,
    /// The size of a page, as its header says.
    pub(super) page_size: Option<usize>,
    /// Why transactions that were on disk are not all readable; `None` where nothing says so.
    pub(crate) damage: Option<String>,
}

impl Log {
    /// Reads a log; `page_size` is what the database says, for a log that does not.
    pub(crate) fn read(file: &File, page_size: Option<usize>) -> Log {
        let mut header = [0; HEADER_BYTES];
        let Ok(len) = file.metadata().map(|found| found.len()) else { return Log::default() };
        if len < (HEADER_BYTES + FRAME_HEADER_BYTES) as u64 || file.read_exact_at(&mut header, 0).is_err() {
            return Log::default();
        }
        let big_endian = word(&header, 0) & 1 == 1;
        let sum = sum(&header[..24], (0, 0), big_endian);
        let has_sound_header = word(&header, 0) & !1 == MAGIC && sum == (word(&header, 24), word(&header, 28));
        let said = has_sound_header.then(|| word(&header, 8) as usize).filter(|&size| is_page_size(size));
        let Some(page_size) = said.or(page_size) else { return Log::default() };
        let start = Start { has_sound_header, sum, salts: (word(&header, 16), word(&header, 20)), big_endian };
        let mut reading = Reading::default();
        reading.frames(file, len, page_size, start);
        let mut log = Log { page_size: said, damage: reading.damage(), ..Log::default() };
        log.pages = if log.damage.is_some() { reading.all } else { reading.sound };
        log
    }
}

/// What the header says of the frames.
struct Start {
    has_sound_header: bool,
    sum: Sum,
    salts: (u32, u32),
    big_endian: bool,
}

#[derive(Default)]
struct Reading {
    /// Committed before the first bad frame.
    sound: HashMap<u32, u64>,
    /// Committed at all.
    all: HashMap<u32, u64>,
    pending: Vec<(u32, u64)>,
    /// The first bad frame, counted from 1, and commits behind it.
    bad: Option<(u64, u64)>,
    /// Sound frames behind the first commit behind the bad one, which must have been on disk before they were written.
    proofs: u64,
}

impl Reading {
    fn frames(&mut self, file: &File, len: u64, page_size: usize, start: Start) {
        let frame_bytes = FRAME_HEADER_BYTES + page_size;
        let mut frame = vec![0; frame_bytes];
        // Without a header, the first two frames in a row that hold together say what the salts are, and begin the chain: what
        // damages the header often damages the frame behind it.
        let (mut seed, mut salts) =
            (start.has_sound_header.then_some(start.sum), start.has_sound_header.then_some(start.salts));
        let (mut big_endian, mut before) = (start.big_endian, None);
        for index in 0..FRAMES_MAX {
            let at = HEADER_BYTES as u64 + index * frame_bytes as u64;
            if at + frame_bytes as u64 > len || file.read_exact_at(&mut frame, at).is_err() {
                break;
            }
            let found = (word(&frame, 8), word(&frame, 12));
            let stored = (word(&frame, 16), word(&frame, 20));
            let number = word(&frame, 0);
            let made =
                |seed, big_endian| sum(&frame[FRAME_HEADER_BYTES..], sum(&frame[..8], seed, big_endian), big_endian);
            let mut is_sound = seed.is_some_and(|seed| made(seed, big_endian) == stored);
            if !is_sound && !start.has_sound_header && seed.is_some_and(|seed| made(seed, !big_endian) == stored) {
                (big_endian, is_sound) = (!big_endian, true);
            }
            if salts.is_none() && is_sound && before == Some(found) {
                salts = Some(found);
            }
            let is_of_this_log = salts == Some(found);
            (seed, before) = (Some(stored), Some(found));
            if number > 0 && is_of_this_log && is_sound {
                self.sound_frame(number, at + FRAME_HEADER_BYTES as u64, word(&frame, 4) > 0);
            } else if self.bad.is_none() {
                self.bad = Some((index + 1, 0));
            }
        }
    }

    fn sound_frame(&mut self, number: u32, at: u64, commits: bool) {
        if self.bad.is_some_and(|(_, commits)| commits > 0) {
            self.proofs += 1;
        }
        self.pending.push((number, at));
        if !commits {
            return;
        }
        if let Some((_, commits)) = &mut self.bad {
            *commits += 1;
        } else {
            self.sound.extend(self.pending.iter().copied());
        }
        self.all.extend(self.pending.drain(..));
    }

    fn damage(&self) -> Option<String> {
        let (frame, commits) = self.bad?;
        (self.proofs > 0)
            .then(|| format!("its write-ahead log is damaged at frame {frame}, with {commits} transactions behind it"))
    }
}

/// Tells whether SQLite has pages of this size.
pub(super) fn is_page_size(size: usize) -> bool {
    size.is_power_of_two() && (512..=65_536).contains(&size)
}

/// Returns a big-endian word; 0 where there is none.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn sum(bytes: &[u8], (mut first, mut second): Sum, big_endian: bool) -> Sum {
    let read = |bytes: [u8; 4]| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    for pair in bytes.chunks_exact(8) {
        let [a, b, c, d, e, f, g, h] = *pair else { break };
        first = first.wrapping_add(read([a, b, c, d])).wrapping_add(second);
        second = second.wrapping_add(read([e, f, g, h])).wrapping_add(first);
    }
    (first, second)
}
