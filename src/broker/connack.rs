//! The hub's answer to a CONNECT.
//!
//! Owns what it tells an MQTT 5 client of the hub's terms, and what it leaves out where the client takes small packets
//! only. It never decides whether a client is let in.
//!
//! Response information is left out, as the standard allows: the hub has no part of the topic tree to give to one client
//! alone, so a client chooses its response topics itself.

use bytes::BytesMut;

use super::registry::Attachment;
use super::wire::{self, ConnAckProperties, Connect, Version};
use crate::config::Limits;

/// The reason codes for a user that is not let in: what is wrong with it is not told.
const SECRETS: [u8; 2] = [0x86, 0x87];

/// What the answer is made of.
pub(super) struct Welcome<'w> {
    pub(super) connect: &'w Connect,
    pub(super) attachment: &'w Attachment,
    /// The client id that the hub has made up.
    pub(super) assigned: Option<&'w str>,
    /// The largest packet that the hub takes, bytes.
    pub(super) packet_bytes_max: usize,
    pub(super) limits: &'w Limits,
}

/// Returns the keep alive that counts, seconds: the client's, or an MQTT 5 client's as far as the limit lets it.
pub(super) fn keep_alive_s(connect: &Connect, limits: &Limits) -> u16 {
    let is_limited = connect.version == Version::V5 && limits.keep_alive_max < u16::MAX;
    match connect.keep_alive {
        0 if is_limited => limits.keep_alive_max,
        asked if is_limited => asked.min(limits.keep_alive_max),
        asked => asked,
    }
}

/// Lets a client in; false, and nothing is written, where it takes no packets as large as the answer.
pub(super) fn accept(out: &mut BytesMut, welcome: &Welcome<'_>) -> bool {
    let Welcome { connect, attachment, limits, .. } = welcome;
    let asked = connect.properties.session_expiry_s.unwrap_or(0);
    let granted = u32::try_from(attachment.expiry.as_secs()).unwrap_or(u32::MAX);
    let keep_alive_s = keep_alive_s(connect, limits);
    let properties = ConnAckProperties {
        session_expiry_s: (granted != asked).then_some(granted),
        receive_maximum: Some(limits.inflight),
        retain_available: (limits.retained_messages == 0).then_some(false),
        maximum_packet_size: u32::try_from(welcome.packet_bytes_max).ok(),
        assigned_client_id: welcome.assigned,
        topic_alias_maximum: (limits.topic_aliases > 0).then_some(limits.topic_aliases),
        server_keep_alive_s: (keep_alive_s != connect.keep_alive).then_some(keep_alive_s),
        ..ConnAckProperties::default()
    };
    put(out, connect, attachment.present, 0, &properties)
}

/// Refuses a client, and tells it why where there is room for it.
pub(super) fn refuse(out: &mut BytesMut, connect: &Connect, code: u8, why: &str) {
    let reason_string = (!SECRETS.contains(&code)).then_some(why);
    let properties = ConnAckProperties { reason_string, ..ConnAckProperties::default() };
    if !put(out, connect, false, code, &properties) {
        put(out, connect, false, code, &ConnAckProperties::default());
    }
}

fn put(out: &mut BytesMut, connect: &Connect, present: bool, code: u8, properties: &ConnAckProperties<'_>) -> bool {
    let start = out.len();
    wire::connack(out, connect.version, present, code, properties);
    let fits = connect.properties.maximum_packet_size.is_none_or(|max| out.len() - start <= max as usize);
    if !fits {
        out.truncate(start);
    }
    fits
}
