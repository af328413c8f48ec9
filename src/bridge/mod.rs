//! The bridge: what the store holds for the upstream goes there, and what the upstream sends down is published locally.

pub mod state;

pub use self::state::{Standing, State};
