//! What both OASIS standards ask of a server, held against the running hub byte by byte, in MQTT 3.1.1 and 5.
//!
//! Owns the tests that `docs/mqtt-conformance.md` names beside the older suites, one module for each matter. What a
//! client sees without looking at bytes is in `broker.rs` and `sessions.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod acks;
mod connect;
mod malformed;
mod properties;
mod publish;
mod raw;
mod sessions;
mod subscribe;
mod topics;
mod wills;

/// MQTT 3.1.1 and MQTT 5.
const VERSIONS: [u8; 2] = [4, 5];
