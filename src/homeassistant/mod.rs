//! Home Assistant: each quantity of each source announces itself there by MQTT discovery, and its values follow.
//!
//! Owns the topics and ids.

mod names;

pub use self::names::Names;
