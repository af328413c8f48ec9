//! Every page of a damaged database that may hold rows, once: by the trees of its tables as far as they lead, and then those that
//! no tree leads to any more.
//!
//! Owns the order, which is the same each time, so that a walk can be taken up after a restart, and what is left out: pages
//! that are free hold rows that were deleted. It never judges a row.

use std::collections::VecDeque;

use rusqlite::types::Value;

use super::pages::Pages;
use super::tree::{self, INTERIOR, LEAF, Raw};

/// Tables that are walked, at most; a database of the hub's has a few dozen.
const TABLES_MAX: usize = 1_000;

/// A table, as the schema of the damaged database has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    /// Its name.
    pub(crate) name: String,
    /// The statement that made it.
    pub(crate) sql: String,
    root: u32,
}

/// The rows of one page.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which of the trees it belongs to; `None` where no tree leads to it.
    pub(crate) tree: Option<usize>,
    /// The rows.
    pub(crate) rows: Vec<Raw>,
}

/// What was found and what was not, so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Pages that were looked at.
    pub(crate) pages: u64,
    /// Pages that the disk does not give back.
    pub(crate) unread: u64,
    /// Pages that a tree leads to, and that are none of a tree.
    pub(crate) spoilt: u64,
    /// Rows that are no rows any more.
    pub(crate) cells: u64,
}

/// The walk.
#[derive(Debug)]
pub(crate) struct Walk {
    pages: Pages,
    trees: Vec<Tree>,
    /// One bit a page: it was looked at, or is known to hold no rows of its own.
    seen: Vec<u64>,
    to_begin: VecDeque<usize>,
    stack: Vec<(u32, usize)>,
    /// The next page that no tree may lead to; 0 while there are trees.
    stray: u32,
    free_is_known: bool,
    tally: Tally,
}

impl Walk {
    /// Begins it.
    pub(crate) fn begin(pages: Pages) -> Walk {
        let seen = vec![0; pages.count() as usize / 64 + 1];
        let mut walk = Walk {
            pages,
            trees: Vec::new(),
            seen,
            to_begin: VecDeque::new(),
            stack: Vec::new(),
            stray: 0,
            free_is_known: false,
            tally: Tally::default(),
        };
        walk.read_schema();
        walk
    }

    /// Returns the tables that are known by name.
    pub(crate) fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Returns the pages.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Tells whether it is known which pages are free. Where it is not, rows that no tree leads to may have been deleted.
    pub(crate) fn free_is_known(&self) -> bool {
        self.free_is_known
    }

    /// Returns what was found so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns the rows of the next page; `None` when all was looked at. Most pages that are asked for have none.
    pub(crate) fn next(&mut self) -> Option<Found> {
        if self.stack.is_empty()
            && let Some(tree) = self.to_begin.pop_front()
        {
            self.stack.push((self.trees.get(tree)?.root, tree));
        }
        if let Some((number, tree)) = self.stack.pop() {
            return Some(Found { tree: Some(tree), rows: self.look(number, Some(tree)) });
        }
        if self.stray == 0 {
            self.mark_free();
            self.stray = 1;
        }
        while self.stray < self.pages.count() {
            self.stray += 1;
            if !self.was_seen(self.stray) {
                return Some(Found { tree: None, rows: self.look(self.stray, None) });
            }
        }
        None
    }

    /// Returns the newest row of a tree, by its last page; `None` where that is not readable.
    pub(crate) fn last(&self, tree: usize) -> Option<Raw> {
        let mut number = self.trees.get(tree)?.root;
        // No tree is deeper.
        for _ in 0..20 {
            let page = self.pages.read(number).ok()??;
            match tree::kind(number, &page) {
                INTERIOR => number = tree::children(number, &page).pop()?,
                LEAF => return tree::rows(&self.pages, number, &page, &mut |_| ()).0.pop(),
                _ => return None,
            }
        }
        None
    }

    /// Returns all rows of a small table, as far as its tree leads to them.
    pub(crate) fn all(&self, tree: usize, rows_max: usize) -> Vec<Raw> {
        let Some(root) = self.trees.get(tree).map(|tree| tree.root) else { return Vec::new() };
        all(&self.pages, root, rows_max)
    }

    fn read_schema(&mut self) {
        for row in all(&self.pages, 1, TABLES_MAX) {
            if let [Value::Text(kind), Value::Text(name), _, Value::Integer(root), Value::Text(sql)] = &row.values[..]
                && kind == "table"
                && let Ok(root @ 2..) = u32::try_from(*root)
            {
                self.to_begin.push_back(self.trees.len());
                self.trees.push(Tree { name: name.clone(), sql: sql.clone(), root });
            }
        }
    }

    fn look(&mut self, number: u32, tree: Option<usize>) -> Vec<Raw> {
        if self.was_seen(number) {
            return Vec::new();
        }
        self.see(number);
        self.tally.pages += 1;
        let page = match self.pages.read(number) {
            Ok(Some(page)) => page,
            Ok(None) => return Vec::new(),
            Err(_) => {
                self.tally.unread += 1;
                return Vec::new();
            }
        };
        match (tree::kind(number, &page), tree) {
            (INTERIOR, Some(tree)) => {
                let below = tree::children(number, &page);
                self.stack.extend(below.into_iter().rev().map(|child| (child, tree)));
                Vec::new()
            }
            (LEAF, tree) => {
                let Walk { pages, seen, .. } = self;
                let (rows, lost) = tree::rows(pages, number, &page, &mut |page| set(seen, page));
                // Of a page that no tree leads to, nobody knows whether it had rows.
                self.tally.cells += if tree.is_some() { lost } else { 0 };
                rows
            }
            // A table without rowids is a tree of another kind, and not for this walk.
            (0x02 | 0x0a, _) | (_, None) => Vec::new(),
            _ => {
                self.tally.spoilt += 1;
                Vec::new()
            }
        }
    }

    /// Notes which pages are free, where that is said in one way alone: a list that does not hold what it says is not believed.
    fn mark_free(&mut self) {
        let Ok(Some(first)) = self.pages.read(1) else { return };
        let word = |page: &[u8], at: usize| page.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let (Some(mut trunk), Some(count)) = (word(&first, 32), word(&first, 36)) else { return };
        let mut free = Vec::new();
        while trunk != 0 && free.len() < count as usize {
            let Ok(Some(page)) = self.pages.read(trunk) else { return };
            free.push(trunk);
            let leaves = word(&page, 4).unwrap_or_default() as usize;
            if leaves > page.len() / 4 {
                return;
            }
            free.extend((0..leaves).filter_map(|index| word(&page, 8 + index * 4)));
            trunk = word(&page, 0).unwrap_or_default();
        }
        if trunk != 0 || free.len() != count as usize || free.iter().any(|&page| self.was_seen(page)) {
            return;
        }
        self.free_is_known = true;
        free.into_iter().for_each(|page| self.see(page));
    }

    fn was_seen(&self, number: u32) -> bool {
        self.seen.get(number as usize / 64).is_none_or(|bits| bits >> (number % 64) & 1 == 1)
    }

    fn see(&mut self, number: u32) {
        set(&mut self.seen, number);
    }
}

fn set(seen: &mut [u64], number: u32) {
    if let Some(bits) = seen.get_mut(number as usize / 64) {
        *bits |= 1 << (number % 64);
    }
}

/// Returns all rows of a small tree.
fn all(pages: &Pages, root: u32, rows_max: usize) -> Vec<Raw> {
    let mut stack = vec![root];
    let mut found = Vec::new();
    // Each page costs one turn, and a tree that bites its tail ends with the turns.
    for _ in 0..rows_max {
        let Some(number) = stack.pop() else { break };
        let Ok(Some(page)) = pages.read(number) else { continue };
        match tree::kind(number, &page) {
            INTERIOR => stack.extend(tree::children(number, &page).into_iter().rev().take(rows_max)),
            LEAF => found.extend(tree::rows(pages, number, &page, &mut |_| ()).0),
            _ => {}
        }
        if found.len() >= rows_max || stack.len() > rows_max {
            break;
        }
    }
    found.truncate(rows_max);
    found
}
