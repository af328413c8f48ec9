//! The pages of a database that SQLite may refuse, as they were last committed.
//!
//! Owns what lies where: the file, and over it what its write-ahead log holds. It judges nothing that is on a page, and never
//! writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::log::{Log, is_page_size};
use crate::place::beside;

/// What is taken for the size of a page where nothing says it: the one of databases that the hub makes.
const PAGE_SIZE: usize = 2048;
/// Pages that are looked at to guess their size.
const GUESS_PAGES: u64 = 64;

/// Of a thousand pages, so many have to begin as those of trees do for the size to be theirs.
const SCORE_MIN: u64 = 200;

/// The pages, numbered from 1.
#[derive(Debug)]
pub(crate) struct Pages {
    file: File,
    log_file: Option<File>,
    log: Log,
    size: usize,
    /// Bytes of each page that other programs keep for themselves.
    reserved: usize,
    count: u32,
}

impl Pages {
    /// Opens a database and its log.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(path: &Path) -> io::Result<Pages> {
        let file = File::open(path)?;
        let log_file = match File::open(beside(path, "-wal")) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        let likely = likelier(&file, len, size_in_header(&file).unwrap_or(PAGE_SIZE));
        let log = log_file.as_ref().map(|log| Log::read(log, Some(likely))).unwrap_or_default();
        let size = log.page_size.unwrap_or(likely);
        let in_file = u32::try_from(len.div_ceil(size as u64)).unwrap_or(u32::MAX);
        let count = log.pages.keys().copied().max().unwrap_or(0).min(u32::MAX / 2).max(in_file);
        Ok(Pages { reserved: reserved(&file), file, log_file, log, size, count })
    }

    /// Tells whether most of the first pages begin as those of trees do.
    pub(crate) fn look_like_trees(&self) -> bool {
        let looked = u32::try_from(GUESS_PAGES).unwrap_or(u32::MAX).min(self.count);
        let fits = |number: &u32| {
            let page = self.read(*number).ok().flatten();
            page.is_some_and(|page| page.first_chunk().is_some_and(|head| begins_as_tree(head, self.size)))
        };
        // Long rows lie on pages that do not.
        (2..=looked).filter(fits).count() * 8 > looked as usize
    }

    /// Returns how many there were, as the header says, and are not there any more; 0 where the header does not say.
    pub(crate) fn missing(&self) -> u64 {
        let mut header = [0; 100];
        let is_sound = self.file.read_exact_at(&mut header, 0).is_ok() && header.starts_with(b"SQLite format 3\0");
        let said = header[28..32].try_into().map_or(0, u32::from_be_bytes);
        u64::from(if is_sound { said.saturating_sub(self.count) } else { 0 })
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Returns the bytes of each that rows are laid out in.
    pub(super) fn usable(&self) -> usize {
        self.size - self.reserved
    }

    /// Tells why the log is not readable as a whole; `None` where it is.
    pub(crate) fn log_damage(&self) -> Option<&str> {
        self.log.damage.as_deref()
    }

    /// Reads a page; what the end of the file cuts off is zero.
    ///
    /// # Errors
    /// The system's: the disk may not give it back.
    pub(crate) fn read(&self, number: u32) -> io::Result<Option<Vec<u8>>> {
        if number == 0 || number > self.count {
            return Ok(None);
        }
        let mut page = vec![0; self.size];
        if let (Some(&at), Some(log)) = (self.log.pages.get(&number), &self.log_file) {
            log.read_exact_at(&mut page, at)?;
            return Ok(Some(page));
        }
        let start = u64::from(number - 1) * self.size as u64;
        let mut filled = 0;
        while filled < page.len() {
            match self.file.read_at(&mut page[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((filled > 0).then_some(page))
    }
}

fn reserved(file: &File) -> usize {
    let mut byte = [0];
    let read = file.read_exact_at(&mut byte, 20);
    // The hub reserves none, and others few.
    read.map_or(0, |()| usize::from(byte[0])).min(33) % 33
}

fn size_in_header(file: &File) -> Option<usize> {
    let mut bytes = [0; 18];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let said = usize::from(bytes[16]) << 8 | usize::from(bytes[17]);
    let size = if said == 1 { 65_536 } else { said };
    // A size that is wrong makes everything unreadable: believed where the words before it are whole.
    (bytes.starts_with(b"SQLite format 3\0") && is_page_size(size)).then_some(size)
}

/// Returns the likeliest size of the pages: at the right one, most pages begin as pages of trees do, and at its multiples, too, so
/// the smallest of those counts. Where the pages do not say it clearly, it is `said`.
fn likelier(file: &File, len: u64, said: usize) -> usize {
    let score = |size: usize| {
        let pages = (len / size as u64).min(GUESS_PAGES);
        let fits = |page: &u64| {
            let mut head = [0; 8];
            file.read_exact_at(&mut head, page * size as u64).is_ok() && begins_as_tree(&head, size)
        };
        (1..pages).filter(fits).count() as u64 * 1_000 / pages.max(1)
    };
    let scores = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536].map(|size| (size, score(size)));
    let best = scores.iter().map(|(_, score)| *score).max().unwrap_or(0);
    if best < SCORE_MIN {
        return said;
    }
    scores.into_iter().find(|(_, score)| score * 4 >= best * 3).map_or(said, |(size, _)| size)
}

fn begins_as_tree(head: &[u8; 8], size: usize) -> bool {
    let word = |at: usize| usize::from(head[at]) << 8 | usize::from(head[at + 1]);
    let content = if word(5) == 0 { 65_536 } else { word(5) };
    matches!(head[0], 0x02 | 0x05 | 0x0a | 0x0d) && content <= size && word(3) <= size / 4 && head[7] <= 60
}
