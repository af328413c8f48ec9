//! What is on one page of a table's tree: rows, or the pages below it.
//!
//! Owns the layout of pages, and the chains of pages that long rows go on in. Each cell is read by itself: a bad one costs its
//! neighbours nothing.

use rusqlite::types::Value;

use super::pages::Pages;
use super::record::{Header, varint};

/// The page holds rows.
pub(super) const LEAF: u8 = 0x0d;
/// The page holds the numbers of pages below it.
pub(super) const INTERIOR: u8 = 0x05;
/// A row that is longer was never the hub's.
const ROW_BYTES_MAX: usize = 64 << 20;
/// Where page 1 begins, behind the header of the file.
const FIRST_PAGE_BEGINS: usize = 100;

/// A row as it lies in its tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raw {
    /// Its number.
    pub(crate) id: i64,
    /// Its columns in their order; the one that is the number is NULL here.
    pub(crate) values: Vec<Value>,
}

/// Returns what kind of page this is.
pub(super) fn kind(number: u32, page: &[u8]) -> u8 {
    page.get(begin(number)).copied().unwrap_or_default()
}

/// Returns the pages below an interior page, in their order.
pub(super) fn children(number: u32, page: &[u8]) -> Vec<u32> {
    let child = |at: usize| page.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
    let mut found: Vec<u32> = cells(number, page, 12).filter_map(child).collect();
    found.extend(child(begin(number) + 8));
    found
}

/// Returns the rows of a leaf, and how many more cannot be read; `overflow` is told each further page that a row goes on in.
pub(super) fn rows(pages: &Pages, number: u32, page: &[u8], overflow: &mut dyn FnMut(u32)) -> (Vec<Raw>, u64) {
    let mut found = Vec::new();
    let mut lost = 0;
    for at in cells(number, page, 8) {
        match row(pages, page, at, overflow) {
            Some(row) => found.push(row),
            None => lost += 1,
        }
    }
    (found, lost)
}

fn begin(number: u32) -> usize {
    if number == 1 { FIRST_PAGE_BEGINS } else { 0 }
}

/// Returns where the cells of a page begin, behind a page header of this length.
fn cells(number: u32, page: &[u8], header: usize) -> impl Iterator<Item = usize> {
    let begin = begin(number);
    let word = move |at: usize| Some(usize::from(*page.get(at)?) << 8 | usize::from(*page.get(at + 1)?));
    // No cell is shorter than 4 bytes, with its pointer 6: a damaged count does not make it a longer list.
    let count = word(begin + 3).unwrap_or_default().min(page.len() / 6);
    (0..count).filter_map(move |index| word(begin + header + index * 2)).filter(move |&at| at >= begin + header)
}

fn row(pages: &Pages, page: &[u8], at: usize, overflow: &mut dyn FnMut(u32)) -> Option<Raw> {
    let cell = page.get(at..)?;
    let (size, size_len) = varint(cell)?;
    let (id, id_len) = varint(cell.get(size_len..)?)?;
    let id = id.cast_signed();
    let local = cell.get(size_len + id_len..)?;
    let whole = usize::try_from(size).ok().filter(|&size| size <= ROW_BYTES_MAX);
    let found = whole.and_then(|size| payload(pages, local, size, overflow)).and_then(|bytes| values(&bytes));
    // Its length may be what is damaged: what a row is says its own header, too.
    found.or_else(|| values(local)).map(|values| Raw { id, values })
}

fn values(bytes: &[u8]) -> Option<Vec<Value>> {
    Header::read(bytes)?.values(bytes).filter(|values| values.len() > 1)
}

/// Gathers a row of `size` bytes out of its cell and the pages that it goes on in.
fn payload(pages: &Pages, local: &[u8], size: usize, overflow: &mut dyn FnMut(u32)) -> Option<Vec<u8>> {
    let usable = pages.usable();
    let most = usable - 35;
    if size <= most {
        return local.get(..size).map(<[u8]>::to_vec);
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let here = least + (size - least) % (usable - 4);
    let here = if here <= most { here } else { least };
    let mut bytes = local.get(..here)?.to_vec();
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let mut next = word(local, here)?;
    // Each page adds to the bytes, so that a chain that bites its tail ends, too.
    while bytes.len() < size {
        let page = pages.read(next).ok()??;
        overflow(next);
        let more = (size - bytes.len()).min(usable - 4);
        bytes.extend_from_slice(page.get(4..4 + more)?);
        next = word(&page, 0)?;
    }
    Some(bytes)
}
