//! What each setting of a mosquitto.conf becomes.
//!
//! Owns the meaning of Mosquitto's settings: which belong to which listener, what is the default, what can be said in
//! the hub's words. Pure: settings in, a plan out. A listener with a restriction that cannot be kept is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::parse::Setting;
use super::reasons;

const PORT: u16 = 1883;
/// The hub's default for one message, bytes.
const PAYLOAD_BYTES: u64 = 1 << 20;
const PAYLOAD_BYTES_MAX: u64 = 268_365_823;
const SESSION_EXPIRY_S_MAX: u64 = 316_224_000;

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) listeners: Vec<Listener>,
    pub(super) payload_bytes_max: Option<u64>,
    pub(super) allow_anonymous: bool,
    pub(super) password_file: Option<PathBuf>,
    pub(super) acl_file: Option<PathBuf>,
    /// Keys of `[broker.limits]` with their values.
    pub(super) limits: Vec<(&'static str, u64)>,
    pub(super) log_level: Option<&'static str>,
    /// What was not carried over, and why.
    pub(super) notes: Vec<String>,
    /// Where the hub differs although nothing was set.
    pub(super) remarks: Vec<String>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) websockets: bool,
    pub(super) tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// Where clients must have certificates: whose.
    pub(super) client_ca: Option<PathBuf>,
}

/// The settings of one listener, or those before any.
#[derive(Default)]
struct Block<'s> {
    head: Option<&'s Setting>,
    settings: Vec<&'s Setting>,
}

impl<'s> Block<'s> {
    /// Returns the last setting of that name, as Mosquitto does.
    fn get(&self, key: &str) -> Option<&'s Setting> {
        self.settings.iter().rev().find(|setting| setting.key == key).copied()
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.get(key).filter(|setting| !setting.value.is_empty()).map(|setting| PathBuf::from(&setting.value))
    }
}

/// Keys that are about who may do what: global, or each listener's own with `per_listener_settings`.
const ACCESS: [&str; 3] = ["allow_anonymous", "password_file", "acl_file"];
const PER_LISTENER: &str = "per_listener_settings";
/// Keys that are read below with their listener.
const OF_LISTENER: [&str; 12] = [
    "port",
    "bind_address",
    "protocol",
    "certfile",
    "keyfile",
    "cafile",
    "capath",
    "crlfile",
    "require_certificate",
    "psk_hint",
    "bind_interface",
    "socket_domain",
];

/// Makes the plan.
pub(super) fn translate(settings: &[Setting]) -> Plan {
    let mut plan = Plan::default();
    let (default, listeners) = blocks(settings, &mut plan);
    let mut blocks: Vec<&Block> = listeners.iter().collect();
    // The settings before any listener are a listener's too, unless they only set the scene for others.
    let names_one = ["port", "bind_address"].iter().any(|key| default.get(key).is_some());
    if names_one || listeners.is_empty() {
        blocks.insert(0, &default);
    }
    for block in &blocks {
        match listener(block, names_one) {
            Ok(listener) => {
                if let Some(place) = wants_ipv6_alone(block).filter(|_| listener.address.ip().is_unspecified()) {
                    plan.notes.push(format!("{place}: on all addresses of IPv6 the hub takes IPv4 as well"));
                }
                plan.listeners.push(listener);
            }
            Err((setting, why)) => plan.notes.push(format!(
                "{}: {why}; the listener is left out, so that nobody gets in who did not before",
                setting.map_or_else(|| "the listener on port 1883".to_owned(), Setting::place)
            )),
        }
    }
    if plan.listeners.is_empty() {
        // The hub needs one; on this machine alone it opens nothing to others.
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
        plan.listeners.push(Listener { address, websockets: false, tls: None });
        plan.notes.push(format!("no listener is left; the hub listens on {address}"));
    }
    let local_only = listeners.is_empty() && !names_one;
    access(&mut plan, &default, &blocks, local_only);
    for block in std::iter::once(&default).chain(&listeners) {
        for setting in &block.settings {
            one(&mut plan, setting);
        }
    }
    remark(&mut plan);
    plan
}

/// Sorts the settings into those before the first listener and those of each; bridges are noted.
fn blocks<'s>(settings: &'s [Setting], plan: &mut Plan) -> (Block<'s>, Vec<Block<'s>>) {
    let (mut default, mut listeners) = (Block::default(), Vec::<Block>::new());
    let per_listener = settings.iter().any(|setting| setting.key == PER_LISTENER && setting.is_true());
    // What is not a listener's own means the whole broker, although it may stand below one.
    let is_local = |key: &str| OF_LISTENER.contains(&key) || (per_listener && ACCESS.contains(&key));
    let mut in_bridge = false;
    for setting in settings {
        match setting.key.as_str() {
            "connection" => {
                in_bridge = true;
                plan.notes.push(format!(
                    "{}: bridges to other brokers are not carried over, with all lines of this one",
                    setting.place()
                ));
            }
            "listener" => {
                in_bridge = false;
                listeners.push(Block { head: Some(setting), settings: Vec::new() });
            }
            _ if in_bridge => {}
            _ => match listeners.last_mut() {
                Some(listener) if is_local(&setting.key) => listener.settings.push(setting),
                _ => default.settings.push(setting),
            },
        }
    }
    (default, listeners)
}

type LeftOut<'s> = (Option<&'s Setting>, &'static str);

fn listener<'s>(block: &Block<'s>, names_one: bool) -> Result<Listener, LeftOut<'s>> {
    for (key, why) in [
        ("psk_hint", "the hub has no TLS with pre-shared keys"),
        ("bind_interface", "the hub listens on addresses, not on interfaces; write the interface's address as listen"),
    ] {
        if let Some(setting) = block.get(key) {
            return Err((Some(setting), why));
        }
    }
    let protocol = block.get("protocol");
    let websockets = match protocol.map(|setting| setting.value.as_str()) {
        None | Some("mqtt") => false,
        Some("websockets") => true,
        Some(_) => return Err((protocol, "the hub speaks mqtt and websockets alone")),
    };
    Ok(Listener { address: address(block, names_one)?, websockets, tls: tls(block)? })
}

/// Returns the setting by which a listener takes no IPv4.
fn wants_ipv6_alone(block: &Block) -> Option<String> {
    let says = |setting: &&Setting| match setting.key.as_str() {
        "socket_domain" => setting.value == "ipv6",
        _ => setting.value.split_whitespace().next_back().is_some_and(|host| host.contains("::")),
    };
    let found = [block.get("socket_domain"), block.get("bind_address"), block.head].into_iter().flatten().find(says);
    found.map(Setting::place)
}

fn address<'s>(block: &Block<'s>, names_one: bool) -> Result<SocketAddr, LeftOut<'s>> {
    let (mut port, mut host, mut source) = (Some(PORT), None, block.head);
    if let Some(head) = block.head {
        let mut words = head.value.split_whitespace();
        port = words.next().and_then(|word| word.parse().ok());
        host = words.next();
    }
    if let Some(setting) = block.get("port") {
        (port, source) = (setting.value.parse().ok(), Some(setting));
    }
    let Some(port) = port.filter(|port| *port > 0) else {
        return Err((source, "Unix sockets are not supported, and a port must be between 1 and 65535"));
    };
    if let Some(setting) = block.get("bind_address") {
        (host, source) = (Some(setting.value.as_str()), Some(setting));
    }
    let everywhere = if block.head.is_none() && !names_one {
        // Without any listener Mosquitto serves its own machine alone.
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else if block.get("socket_domain").is_some_and(|setting| setting.value == "ipv4") {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        // Takes IPv4 as well, as Mosquitto's two sockets do.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let address = match host {
        None => everywhere,
        Some("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(host) => {
            let why = "the hub listens on addresses, not on host names; write the name's address as listen";
            host.trim_matches(['[', ']']).parse().map_err(|_| (source, why))?
        }
    };
    Ok(SocketAddr::new(address, port))
}

fn tls<'s>(block: &Block<'s>) -> Result<Option<Tls>, LeftOut<'s>> {
    let required = block.get("require_certificate").filter(|setting| setting.is_true());
    let (cert, key) = match (block.path("certfile"), block.path("keyfile")) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        _ => return Err((block.get("certfile").or(block.get("keyfile")), "TLS needs both certfile and keyfile")),
    };
    let client_ca = match required {
        None => None,
        Some(setting) => {
            if let Some(revoked) = block.get("crlfile") {
                return Err((Some(revoked), "the hub has no lists of revoked certificates"));
            }
            let ca = block.path("cafile");
            Some(ca.ok_or((Some(setting), "clients' certificates need a cafile; a capath is not supported"))?)
        }
    };
    Ok(Some(Tls { cert, key, client_ca }))
}

/// Decides who may do what. The hub has one set of users and rules for all listeners.
fn access(plan: &mut Plan, default: &Block, blocks: &[&Block], local_only: bool) {
    let per_listener = default.get(PER_LISTENER).is_some_and(Setting::is_true);
    let of_all = [default];
    let holders: &[&Block] = if per_listener { blocks } else { &of_all };
    let values = |key: &'static str| holders.iter().map(move |block| block.get(key));
    plan.allow_anonymous = values("allow_anonymous").all(|setting| setting.is_some_and(Setting::is_true));
    for key in ACCESS {
        let mut differs = values(key).filter(|setting| {
            let first = holders.first().and_then(|block| block.get(key));
            first.map(|first| &first.value) != setting.map(|setting| &setting.value)
        });
        if let Some(other) = differs.next() {
            let place = other.or(values(key).flatten().next()).map(Setting::place).unwrap_or_default();
            plan.notes.push(format!(
                "{place}: the hub has one {key} for all listeners; the narrower, or the first, is taken"
            ));
        }
    }
    let first_path = |key| holders.iter().find_map(|block| block.path(key));
    plan.password_file = first_path("password_file");
    plan.acl_file = first_path("acl_file");
    if local_only && default.get("allow_anonymous").is_none() {
        plan.allow_anonymous = plan.password_file.is_some();
    }
}

/// Carries one setting over, or notes why not. Those of listeners and of access are done already.
fn one(plan: &mut Plan, setting: &Setting) {
    let number = setting.value.parse::<u64>().ok();
    let positive = number.filter(|number| *number > 0);
    let limit = match setting.key.as_str() {
        "max_connections" => positive.map(|number| ("connections", number.min(65_000))),
        "max_queued_messages" => positive.map(|number| ("session_queue_messages", number.min(1_000_000))),
        "max_queued_bytes" => positive.map(|number| ("session_queue_bytes", number.clamp(1 << 10, 1 << 30))),
        "max_inflight_messages" => {
            number.map(|number| ("inflight", if number == 0 { 65_535 } else { number.min(65_535) }))
        }
        "persistent_client_expiration" => expiry_s(&setting.value).map(|seconds| ("session_expiry_s_max", seconds)),
        "retain_available" if !setting.is_true() => Some(("retained_messages", 0)),
        _ => None,
    };
    match (setting.key.as_str(), limit) {
        ("max_connections", Some((key, number))) => {
            // Each listener has its own in Mosquitto; the hub has one for all.
            let sum = plan.limits.iter().find(|(known, _)| *known == key).map_or(0, |(_, sum)| *sum);
            set(&mut plan.limits, key, (sum + number).min(65_000));
        }
        (_, Some((key, number))) => set(&mut plan.limits, key, number),
        ("message_size_limit", _) if number.is_some() => size(plan, positive.unwrap_or(PAYLOAD_BYTES_MAX)),
        ("max_packet_size", _) if number.is_some_and(|number| number >= 20) => size(plan, number.unwrap_or_default()),
        ("log_dest", _) => log_dest(plan, setting),
        ("log_type", _) => log_type(plan, setting),
        ("cafile" | "capath" | "crlfile", _) if plan.listeners.iter().any(has_client_ca) => {}
        ("cafile" | "capath" | "crlfile", _) => plan.notes.push(note(setting)),
        ("retain_available" | PER_LISTENER, _) => {}
        (key, _) if OF_LISTENER.contains(&key) || ACCESS.contains(&key) || reasons::is_needless(key) => {}
        _ => plan.notes.push(note(setting)),
    }
}

fn has_client_ca(listener: &Listener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

fn note(setting: &Setting) -> String {
    format!("{}: {}", setting.place(), reasons::reason(&setting.key))
}

fn set(limits: &mut Vec<(&'static str, u64)>, key: &'static str, number: u64) {
    limits.retain(|(known, _)| *known != key);
    limits.push((key, number));
}

fn size(plan: &mut Plan, bytes: u64) {
    let bytes = bytes.min(PAYLOAD_BYTES_MAX);
    plan.payload_bytes_max = Some(plan.payload_bytes_max.map_or(bytes, |before| before.min(bytes)));
}

/// Reads a time such as `14d`: hours, days, weeks, months of 30 days, years of 365.
fn expiry_s(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        "m" => 30 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    let number: u64 = number.trim().parse().ok()?;
    Some(number.saturating_mul(seconds).min(SESSION_EXPIRY_S_MAX))
}

fn log_dest(plan: &mut Plan, setting: &Setting) {
    if setting.value != "stderr" {
        // Its directory is Mosquitto's user's, so the hub could not write there.
        plan.notes.push(format!("{}: the hub logs to stderr, and to a file where log.file names one", setting.place()));
    }
}

fn log_type(plan: &mut Plan, setting: &Setting) {
    const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];
    let level = match setting.value.as_str() {
        "error" => 0,
        "warning" => 1,
        "notice" | "information" => 2,
        "debug" | "all" => 3,
        _ => {
            return plan
                .notes
                .push(format!("{}: the hub has no such lines of their own; see log.level", setting.place()));
        }
    };
    let before = LEVELS.iter().position(|known| plan.log_level == Some(known)).unwrap_or(0);
    plan.log_level = LEVELS.get(level.max(before)).copied();
}

fn remark(plan: &mut Plan) {
    if plan.payload_bytes_max.is_none() {
        plan.remarks.push(format!("messages up to {PAYLOAD_BYTES} bytes (max_payload_size in rumqttd.toml)"));
    }
    for (key, text) in [
        ("connections", "1000 connections (broker.limits.connections)"),
        ("session_expiry_s_max", "sessions of absent clients are kept for 7 days (broker.limits.session_expiry_s_max)"),
        ("session_queue_bytes", "1 MiB waits for a slow or absent client (broker.limits.session_queue_bytes)"),
    ] {
        if plan.limits.iter().all(|(known, _)| *known != key) {
            plan.remarks.push(text.to_owned());
        }
    }
    plan.remarks.push("docs/configuration.md has the rest of broker.limits".to_owned());
}
