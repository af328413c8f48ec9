//! Prints a configuration as the `hub.toml` that would bring it about.
//!
//! Owns that text and nothing else; what stands outside `hub.toml` is said in comments. It never reads a source.

mod uploads;

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::alerts::{Alerts, Channel, ChannelKind, Condition, Mail, Rule, Webhook};
use super::{Bridge, Broker, Config, Limits, Listener, Password, Pattern, Protocol, Station, Weather};
use crate::weather::calibration::Vane;

impl Config {
    /// Returns the configuration as TOML that is valid as `hub.toml`, paths absolute.
    pub fn effective(&self) -> String {
        let mut text =
            Text(String::from("# The effective configuration: defaults, file, environment and flags together.\n"));
        station(&mut text, &self.station);
        weather(&mut text, &self.weather);
        self.broker_section(&mut text);
        limits(&mut text, &self.broker.limits);
        self.ingest_section(&mut text);

        text.section("store");
        text.path("path", &self.store.path);
        text.string("synchronous", self.store.synchronous.name());
        text.line("batch_max", self.store.batch_max);
        text.line("quarantine_bytes_max", self.store.quarantine_bytes_max);
        text.line("reserve_bytes", self.store.reserve_bytes);
        text.section("store.retention");
        let days = |age: Option<Duration>| age.unwrap_or_default().as_secs() / 86_400;
        text.line("raw_days", days(self.store.retention.raw));
        text.line("quarantine_days", days(self.store.retention.quarantine));
        text.section("store.backup");
        if let Some(directory) = &self.store.backup.directory {
            text.path("directory", directory);
        }
        text.line("every_hours", self.store.backup.every.unwrap_or_default().as_secs() / 3_600);
        text.line("keep", self.store.backup.keep);

        text.section("health");
        text.seconds("interval_s", self.health.interval);
        text.seconds("write_silence_s", self.health.write_silence);
        text.line("write_failures_max", self.health.write_failures_max);
        text.line("degraded_is_503", self.health.degraded_is_503);
        text.line("disk_free_bytes_min", self.health.disk_free_bytes_min);
        text.line("wal_bytes_max", self.health.wal_bytes_max);
        text.line("memory_bytes_max", self.health.memory_bytes_max.unwrap_or_default());
        for source in &self.health.sources {
            text.section("[health.source]");
            text.string("filter", &source.filter);
            text.seconds("silence_s", source.silence_max.unwrap_or_default());
        }

        text.section("stats");
        text.seconds("interval_s", self.stats.interval);

        bridge(&mut text, self.bridge.as_ref());

        alerts(&mut text, &self.alerts);
        uploads::uploads(&mut text, &self.uploads);

        text.section("homeassistant");
        text.line("enabled", self.homeassistant.enabled);
        text.string("prefix", &self.homeassistant.prefix);
        text.string("topic", &self.homeassistant.topic);
        text.seconds("interval_s", self.homeassistant.interval);

        text.section("http");
        text.string("listen", &self.http.listen.map(|address| address.to_string()).unwrap_or_default());
        if let Some(users) = &self.http.users {
            text.path("users", users);
        }
        text.strings("hosts", &self.http.hosts);

        text.section("log");
        text.string("level", &self.log.level.as_str().to_lowercase());
        if let Some(file) = &self.log.file {
            text.path("file", file);
        }
        if !self.log.stderr {
            text.comment("silent: not to stderr");
        }
        text.0
    }

    fn broker_section(&self, text: &mut Text) {
        text.section("broker");
        match &self.broker.config {
            Some(path) => text.path("config", path),
            None => text.comment("config: no rumqttd.toml, the built-in default"),
        }
        for listener in &self.broker.listeners {
            listener_line(text, listener);
        }
        for warning in &self.broker.warnings {
            text.comment(&format!("warning: {warning}"));
        }
        let router = &self.broker.router;
        text.comment(&format!(
            "router: {} links, {} segments of {} bytes for each filter",
            router.max_connections, router.max_segment_count, router.max_segment_size
        ));
        text.comment(&format!("PID file: {}", absolute(&self.pid)));
        text.line("allow_anonymous", self.broker.allow_anonymous);
        let Broker { users, password_file, acl_file, .. } = &self.broker;
        for (key, file) in [("users", users), ("password_file", password_file), ("acl_file", acl_file)] {
            if let Some(file) = file {
                text.path(key, file);
            }
        }
    }

    fn ingest_section(&self, text: &mut Text) {
        text.section("ingest");
        text.line("queue_bytes", self.ingest.queue_bytes);
        text.line("payload_bytes_max", self.ingest.payload_bytes_max);
        text.seconds("clock_skew_max_s", self.ingest.clock_skew_max);
        for route in &self.ingest.routes {
            text.section("[ingest.route]");
            text.string("kind", route.kind.name());
            match &route.pattern {
                Pattern::Level(level) => text.string("level", level),
                Pattern::Filter(filter) => text.string("filter", filter),
            }
        }
    }
}

fn station(text: &mut Text, station: &Station) {
    text.section("station");
    text.string("name", &station.name);
    for (key, number) in
        [("latitude", station.latitude), ("longitude", station.longitude), ("altitude_m", station.altitude_m)]
    {
        if let Some(number) = number {
            text.line(key, format!("{number:?}"));
        }
    }
    if let Some(timezone) = &station.timezone {
        text.string("timezone", timezone);
    }
}

fn weather(text: &mut Text, weather: &Weather) {
    text.section("weather");
    text.string("units", weather.units.name());
    if let Some(path) = &weather.calibration_file {
        text.path("calibration_file", path);
    }
    for (key, number, _) in weather.calibration.clone().values_mut() {
        text.line(key, format!("{number:?}"));
    }
    match &weather.vane {
        Vane::Degrees => text.string("vane", "degrees"),
        Vane::Table(table) => {
            for (reading, degrees) in table {
                text.section("[weather.vane_position]");
                text.line("reading", format!("{reading:?}"));
                text.line("degrees", format!("{degrees:?}"));
            }
        }
    }
}

fn listener_line(text: &mut Text, listener: &Listener) {
    text.comment(&format!(
        "listener {:?}: {}, {}, packets up to {} bytes, CONNECT within {} ms",
        listener.name,
        listener.kind(),
        listener.address,
        listener.packet_bytes_max,
        listener.connect_timeout.as_millis()
    ));
    if let Some(files) = listener.tls.as_ref().map(|certificates| certificates.files()) {
        let clients = match &files.client_ca {
            Some(path) => format!("clients need a certificate by {}", absolute(path)),
            None => "clients need no certificate".to_owned(),
        };
        text.comment(&format!(
            "listener {:?}: certificate {}, key {}; {clients}",
            listener.name,
            absolute(&files.certificate),
            absolute(&files.key)
        ));
    }
}

fn limits(text: &mut Text, limits: &Limits) {
    text.section("broker.limits");
    text.line("connections", limits.connections);
    text.line("connections_per_address", limits.connections_per_address);
    text.line("connections_pending", limits.connections_pending);
    text.line("inflight", limits.inflight);
    text.line("session_queue_messages", limits.session_queue_messages);
    text.line("session_queue_bytes", limits.session_queue_bytes);
    text.line("queued_bytes", limits.queued_bytes);
    text.line("subscriptions", limits.subscriptions);
    text.line("filters", limits.filters);
    text.line("topics", limits.topics);
    text.line("partial_bytes", limits.partial_bytes);
    text.line("sessions", limits.sessions);
    text.line("retained_messages", limits.retained_messages);
    text.line("retained_bytes", limits.retained_bytes);
    text.seconds("session_expiry_s_max", limits.session_expiry_max);
    text.line("topic_aliases", limits.topic_aliases);
    text.line("keep_alive_s_max", limits.keep_alive_max);
}

fn bridge(text: &mut Text, bridge: Option<&Bridge>) {
    text.section("bridge");
    let Some(bridge) = bridge else {
        return text.comment("url: none, nothing goes upstream");
    };
    text.string("url", &bridge.url());
    text.line("protocol", if bridge.protocol == Protocol::V4 { 4 } else { 5 });
    text.string("client_id", &bridge.client_id);
    if let Some(username) = &bridge.username {
        text.string("username", username);
    }
    match &bridge.password {
        Some(Password::Text(_)) => text.comment("password = \"***\""),
        Some(Password::File(file)) => text.path("password_file", file),
        None => {}
    }
    if let Some(tls) = &bridge.tls {
        match &tls.ca {
            Some(file) => text.path("ca", file),
            None => text.comment("ca: the authorities that the system trusts"),
        }
        if let Some((certificate, key)) = &tls.client {
            text.path("client_cert", certificate);
            text.path("client_key", key);
        }
    }
    text.strings("forward", &bridge.forward);
    text.string("prefix", &bridge.prefix);
    text.line("keep_retained", bridge.keep_retained);
    text.strings("subscribe", &bridge.subscribe);
    text.string("local_user", &bridge.local_user);
    text.line("window", bridge.window);
    text.line("qos", bridge.qos);
    text.line("outbox_bytes_max", bridge.outbox_bytes_max);
    text.seconds("outbox_age_s_max", bridge.outbox_age_max.unwrap_or_default());
    text.line("payload_bytes_max", bridge.payload_bytes_max);
    text.line("rate_max", bridge.rate_max.unwrap_or_default());
    text.line("live_first", bridge.live_first);
    text.seconds("keep_alive_s", bridge.keep_alive);
    text.seconds("ack_wait_s_max", bridge.ack_wait_max);
    text.seconds("reconnect_s_max", bridge.reconnect_max);
    for warning in &bridge.warnings {
        text.comment(&format!("warning: {warning}"));
    }
}

fn alerts(text: &mut Text, alerts: &Alerts) {
    text.section("alerts");
    text.seconds("repeat_s", alerts.repeat.unwrap_or_default());
    text.seconds("group_s", alerts.group);
    if let Some(quiet) = &alerts.quiet {
        let hours = format!("{}-{}", quiet.from.strftime("%H:%M"), quiet.to.strftime("%H:%M"));
        text.string("quiet", &hours);
    }
    if alerts.channels.is_empty() {
        text.comment("no channel: nothing but the log tells what is wrong");
    }
    for channel in &alerts.channels {
        alert_channel(text, channel);
    }
    for rule in &alerts.rules {
        alert_rule(text, rule, &alerts.channels);
    }
    for warning in &alerts.warnings {
        text.comment(&format!("warning: {warning}"));
    }
}

fn alert_channel(text: &mut Text, channel: &Channel) {
    text.section("[alerts.channel]");
    text.string("name", &channel.name);
    text.string("kind", channel.kind.name());
    match &channel.kind {
        ChannelKind::Log => {}
        ChannelKind::Mqtt { topic } => text.string("topic", topic),
        ChannelKind::Webhook(webhook) => alert_webhook(text, webhook),
        ChannelKind::Mail(mail) => alert_mail(text, mail),
        ChannelKind::Command { program, arguments, timeout } => {
            text.string("program", &program.display().to_string());
            let arguments: Vec<String> = arguments.iter().map(|argument| argument.as_written().to_owned()).collect();
            text.strings("arguments", &arguments);
            text.seconds("timeout_s", *timeout);
        }
    }
}

/// Whoever knows a webhook's path or its headers can often write to it, so neither is shown.
fn alert_webhook(text: &mut Text, webhook: &Webhook) {
    text.string("url", &format!("{}/***", webhook.server()));
    text.string("method", webhook.method);
    for (name, _) in &webhook.headers {
        text.comment(&format!("headers: {name}: ***"));
    }
    text.string("template", webhook.body.as_written());
    text.string("content_type", &webhook.content_type);
    if let Some(ca) = &webhook.ca {
        text.path("ca", ca);
    }
    text.seconds("timeout_s", webhook.timeout);
}

fn alert_mail(text: &mut Text, mail: &Mail) {
    text.string("host", &mail.host);
    text.line("port", mail.port);
    text.string("tls", mail.tls.name());
    if let Some(username) = &mail.username {
        match &mail.password {
            // Without its password, the name alone would be an error.
            Some(Password::Text(_)) => text.comment(&format!("username = {}, password = \"***\"", quoted(username))),
            Some(Password::File(file)) => {
                text.string("username", username);
                text.path("password_file", file);
            }
            None => {}
        }
    }
    text.string("from", &mail.from);
    text.strings("to", &mail.to);
    if let Some(ca) = &mail.ca {
        text.path("ca", ca);
    }
    text.seconds("timeout_s", mail.timeout);
}

fn alert_rule(text: &mut Text, rule: &Rule, channels: &[Channel]) {
    text.section("[alerts.rule]");
    text.string("name", &rule.name);
    match &rule.condition {
        Condition::Check(id) => text.string("check", id.as_deref().unwrap_or("*")),
        Condition::Quantity(limit) => {
            text.string("when", &limit.to_string());
            if let Some(clear) = limit.clear {
                text.line("clear", format!("{clear:?}"));
            }
            if let Some(source) = &limit.source {
                text.string("source", source);
            }
        }
    }
    text.seconds("for_s", rule.hold);
    text.seconds("repeat_s", rule.repeat.unwrap_or_default());
    match rule.severity {
        Some(severity) => text.string("severity", severity.name()),
        None => text.comment("severity: critical where the hub fails, warning where it is degraded"),
    }
    let named: Vec<String> = rule.channels.iter().map(|&position| channels[position].name.clone()).collect();
    text.strings("channels", &named);
}

struct Text(String);

impl Text {
    fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
    }

    fn comment(&mut self, comment: &str) {
        // A control character, such as a line break in a path, would end the comment.
        let comment: String = comment.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        self.0.push_str(&format!("# {comment}\n"));
    }

    fn line(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn string(&mut self, key: &str, value: &str) {
        self.line(key, quoted(value));
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.line(key, format_args!("[{}]", values.join(", ")));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.string(key, &absolute(path));
    }

    fn seconds(&mut self, key: &str, duration: Duration) {
        self.line(key, duration.as_secs());
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

/// Returns a TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
