//! The owner's commands on the database: backup, export, plot, import, the quarantine, the doctor.
//!
//! Owns what they do, in which order, and what they say. It has no SQL: that is the store's. What is to be written while the hub
//! runs is asked of the hub; while it does not, it is written under the database's lock. What only reads, reads beside it.

pub mod backup;
pub mod desk;
pub mod doctor;
pub mod error;
pub mod export;
pub mod import;
pub mod plot;
pub mod progress;
pub mod quarantine;
pub mod schedule;
mod way;
pub mod whole;

pub use error::MaintenanceError;
