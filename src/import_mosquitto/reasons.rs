//! Why a setting of Mosquitto's is not carried over.
//!
//! Owns those words. Pure.

/// Settings that need no counterpart: the hub does what they say, or what they set is Mosquitto's default and the hub's.
const NEEDLESS: [&str; 2] = ["set_tcp_nodelay", "persistence_location"];

const REASONS: [(&str, &str); 52] = [
    ("persistence", "the hub has one database, store.path in hub.toml, which it always keeps"),
    ("persistence_file", "the hub has one database, store.path in hub.toml; Mosquitto's is not read"),
    ("autosave_interval", "the hub saves at once"),
    ("autosave_on_changes", "the hub saves at once"),
    ("user", "which user the hub runs as is said in its systemd unit"),
    ("pid_file", "the PID file is named with --pid"),
    ("max_keepalive", "the hub takes the keep alive that a client asks for"),
    ("max_inflight_bytes", "the hub bounds messages in flight by number, broker.limits.inflight"),
    ("queue_qos0_messages", "messages at QoS 0 do not wait for a client that is away"),
    ("upgrade_outgoing_qos", "messages are delivered at the lower of both QoS, as the standard says"),
    ("allow_duplicate_messages", "a message that several subscriptions match is delivered once"),
    ("allow_zero_length_clientid", "a client without an id gets one"),
    ("auto_id_prefix", "the ids that the hub assigns begin with auto-"),
    ("check_retain_source", "a retained message stays although its publisher may not publish it any more"),
    ("sys_interval", "the hub has no $SYS topics; its figures are at /api/v1/status"),
    ("memory_limit", "the hub bounds every queue by itself, see broker.limits"),
    ("max_topic_alias", "has no key in the hub"),
    ("max_topic_alias_broker", "has no key in the hub"),
    ("max_qos", "every client may use each QoS"),
    ("mount_point", "topics of a listener get no prefix; its clients publish where they say, which may be elsewhere"),
    ("http_dir", "the hub serves no files"),
    ("use_username_as_clientid", "client ids are what clients say"),
    ("clientid_prefixes", "client ids are not restricted"),
    ("use_identity_as_username", "users log in with name and password, not by their certificate"),
    ("use_subject_as_username", "users log in with name and password, not by their certificate"),
    ("ciphers", "the hub uses the ciphers of its TLS library, all of them current"),
    ("ciphers_tls1.3", "the hub uses the ciphers of its TLS library, all of them current"),
    ("tls_version", "the hub speaks TLS 1.2 and 1.3"),
    ("dhparamfile", "the hub needs none"),
    ("tls_engine", "the hub has no TLS engines"),
    ("tls_engine_kpass_sha1", "the hub has no TLS engines"),
    ("tls_keyform", "the key must be a file in PEM form"),
    ("psk_file", "the hub has no TLS with pre-shared keys"),
    ("log_facility", "the hub does not log to syslog; systemd's journal takes its stderr"),
    ("log_timestamp", "every line of the hub's log has its time"),
    ("log_timestamp_format", "times are in RFC 3339"),
    ("connection_messages", "is told at log.level debug"),
    ("websockets_log_level", "has no key in the hub"),
    ("websockets_headers_size", "has no key in the hub"),
    ("retain_expiry_interval", "retained messages are kept until they are replaced or expire by themselves"),
    ("retry_interval", "is Mosquitto's own past; nothing is sent again on one connection"),
    ("store_clean_interval", "is Mosquitto's own past"),
    ("message_size_limit", "is not a number"),
    ("max_packet_size", "is not a number of at least 20"),
    ("max_connections", "0 or fewer means no limit, and the hub always has one: broker.limits.connections"),
    ("max_queued_messages", "0 means no limit, and the hub always has one: broker.limits.session_queue_messages"),
    ("max_queued_bytes", "0 means no limit, and the hub always has one: broker.limits.session_queue_bytes"),
    ("max_inflight_messages", "is not a number"),
    ("persistent_client_expiration", "is not a number with h, d, w, m or y"),
    ("cafile", "is for clients' certificates, which require_certificate does not ask for here"),
    ("capath", "is for clients' certificates, which require_certificate does not ask for here"),
    ("crlfile", "is for clients' certificates, which require_certificate does not ask for here"),
];

/// Tells whether nothing is lost where a setting is left out.
pub(super) fn is_needless(key: &str) -> bool {
    NEEDLESS.contains(&key)
}

/// Returns why a setting is not carried over.
pub(super) fn reason(key: &str) -> &'static str {
    if let Some((_, reason)) = REASONS.iter().find(|(known, _)| *known == key) {
        return reason;
    }
    let begins = |start: &[&str]| start.iter().any(|start| key.starts_with(start));
    if begins(&["auth_plugin", "auth_opt_", "plugin", "global_plugin"]) {
        return "the hub has no plug-ins; what it checked is not checked any more, users come from files alone";
    }
    "is not known to the hub"
}
