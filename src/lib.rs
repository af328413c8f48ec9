//! An MQTT broker and failsafe store for a weather station, in one binary.
//!
//! `docs/ARCHITECTURE.md` shows the house; each room's own page says what it owns and what it never does.

pub mod alert;
pub mod almanac;
pub mod asking;
pub mod bridge;
pub mod broker;
pub mod chart;
pub mod cli;
pub mod clock;
pub mod config;
mod fault;
pub mod gaps;
pub mod health;
pub mod histogram;
pub mod homeassistant;
pub mod http;
pub mod hub;
pub mod import_mosquitto;
pub mod ingest;
pub mod lock;
pub mod log;
pub mod maintenance;
pub mod page;
pub mod panels;
pub mod panics;
pub mod passwd;
pub mod place;
pub mod reading;
pub mod records;
pub mod reload;
pub mod service;
pub mod settings;
pub mod simulate;
pub mod store;
pub mod table;
pub mod tasks;
pub mod tls;
pub mod topic;
pub mod upkeep;
pub mod upload;
pub mod weather;
pub mod web;
