//! Reading a damaged database without SQLite.
//!
//! Owns what can still be had from the file: pages as they were last committed (`pages`, `log`), the trees of the tables and what
//! no tree leads to any more (`walk`, `tree`), rows (`record`), and to which table each belongs (`tables`). SQLite gives up at the
//! first bad page; here a bad page costs its own rows. It never writes and never opens a connection; whatever the bytes are,
//! it ends, without a panic, and in bounded memory.

mod log;
mod pages;
mod record;
mod tables;
mod tree;
mod walk;

pub(super) use self::log::Log;
pub(super) use self::pages::Pages;
pub(super) use self::tables::{Table, columns, table_of};
pub(super) use self::tree::Raw;
pub(super) use self::walk::{Tally, Walk};

#[cfg(test)]
mod tests;
