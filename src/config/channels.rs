//! Reads the channels of `[alerts]`: the keys of each kind, their defaults and ranges.
//!
//! Owns what may stand in a URL, a header and a mail address, as far as that can be told without asking anybody. A
//! secret never gets into the text of a problem.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderName, Uri, header};
use lettre::Address;
use lettre::message::Mailbox;

use super::Password;
use super::alerting::{NAME_WORDS, is_name, refuse_twin};
use super::alerts::{Channel, ChannelKind, Mail, MailTls, Webhook};
use super::reader::Reader;
use super::sections::seconds;
use super::template::{Escape, Template};
use crate::tls;

/// Channels, at most: each has a task and a queue of its own.
const CHANNELS_MAX: usize = 20;
/// Longest topic of a channel, bytes.
const TOPIC_BYTES_MAX: usize = 1_024;
/// What a webhook sends where nothing else is set.
const BODY: &str = "{\"id\":\"{id}\",\"station\":\"{station}\",\"rule\":\"{rule}\",\"subject\":\"{subject}\",\
                    \"state\":\"{state}\",\"severity\":\"{severity}\",\"title\":\"{title}\",\"text\":\"{text}\",\
                    \"time\":\"{time}\"}";
/// Headers that the hub sets itself.
const OWN_HEADERS: [HeaderName; 5] =
    [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::TRANSFER_ENCODING, header::CONNECTION, header::HOST];
const JSON: &str = "application/json";
const URL_WORDS: &str = "must be \"http://HOST/PATH\" or \"https://HOST/PATH\", a port after HOST if need be; fields \
                         only after HOST, a login in headers";

/// Reads every `[[alerts.channel]]`.
pub(super) fn channels(reader: &mut Reader, base: &Path, warnings: &mut Vec<String>) -> Vec<Channel> {
    if !reader.is_set("alerts.channel") {
        return Vec::new();
    }
    let keys = reader.list("alerts.channel");
    if keys.len() > CHANNELS_MAX {
        reader.complain("alerts.channel", format!("at most {CHANNELS_MAX} can stand here, are {}", keys.len()));
    }
    for (index, key) in keys.iter().enumerate() {
        refuse_twin(reader, &keys[..index], key);
    }
    keys.iter().filter_map(|key| channel(reader, base, key, warnings)).collect()
}

fn channel(reader: &mut Reader, base: &Path, key: &str, warnings: &mut Vec<String>) -> Option<Channel> {
    let of = |name: &str| format!("{key}.{name}");
    reader.require(&of("name"));
    reader.require(&of("kind"));
    let name = reader.text(&of("name"), NAME_WORDS, |text| is_name(text).then(|| text.to_owned()));
    let words = "\"log\", \"mqtt\", \"webhook\", \"mail\" or \"command\"";
    let known = ["log", "mqtt", "webhook", "mail", "command"];
    let kind = reader.text(&of("kind"), words, |text| known.into_iter().find(|kind| *kind == text));
    let Some(kind) = kind else {
        // Which keys go with it is not known.
        reader.accept_all(key);
        return None;
    };
    let kind = match kind {
        "mqtt" => Some(mqtt(reader, &of("topic"))),
        "webhook" => webhook(reader, base, key).map(ChannelKind::Webhook),
        "mail" => mail(reader, base, key, warnings).map(ChannelKind::Mail),
        "command" => command(reader, base, key),
        _ => Some(ChannelKind::Log),
    };
    Some(Channel { name: name?, kind: kind? })
}

fn mqtt(reader: &mut Reader, key: &str) -> ChannelKind {
    let topic = |text: &str| {
        let wrong = text.is_empty()
            || text.len() > TOPIC_BYTES_MAX
            || text.starts_with('$')
            || text.ends_with('/')
            || text.contains(['+', '#', '\0']);
        (!wrong).then(|| text.to_owned())
    };
    let words = "the beginning of a topic, without '+', '#', a '$' in front and a '/' at its end";
    ChannelKind::Mqtt { topic: reader.text(key, words, topic).unwrap_or_else(|| "stationhub/alert".to_owned()) }
}

fn webhook(reader: &mut Reader, base: &Path, key: &str) -> Option<Webhook> {
    let of = |name: &str| format!("{key}.{name}");
    reader.require(&of("url"));
    let url = reader.parsed(&of("url"), url);
    let methods = ["POST", "PUT", "GET"];
    let method = |text: &str| methods.into_iter().find(|method| *method == text);
    let method = reader.text(&of("method"), "\"POST\", \"PUT\" or \"GET\"", method).unwrap_or("POST");
    let headers = headers(reader, &of("headers"));
    let template = reader.parsed(&of("template"), Template::parse);
    let is_type = |text: &str| text.contains('/') && text.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    let content_type = reader.text(&of("content_type"), "a media type, such as \"text/plain\"", |text| {
        is_type(text).then(|| text.to_owned())
    });
    let ca = authorities(reader, base, &of("ca"));
    let timeout = timeout(reader, key);
    Some(Webhook {
        url: url?,
        method,
        headers: headers?,
        body: template.or_else(|| Template::parse(BODY).ok())?,
        content_type: content_type.unwrap_or_else(|| JSON.to_owned()),
        ca,
        timeout,
    })
}

/// Sees that a URL names a server, before any field of it is filled.
fn url(text: &str) -> Result<Template, String> {
    let wrong = || URL_WORDS.to_owned();
    let template = Template::parse(text)?;
    let filled: Uri = template.fill(|_| "x".to_owned(), Escape::Percent).parse().map_err(|_| wrong())?;
    let authority = filled.authority().ok_or_else(wrong)?;
    let is_http = matches!(filled.scheme_str(), Some("http" | "https"));
    let as_written = text.split_once("://").is_some_and(|(_, rest)| rest.starts_with(authority.as_str()));
    let is_port_wrong = authority.as_str().len() > authority.host().len() && authority.port_u16().is_none();
    if !is_http || is_port_wrong || authority.host().is_empty() || authority.as_str().contains('@') || !as_written {
        return Err(wrong());
    }
    Ok(template)
}

/// Reads headers, each `Name: value`; `None` where one is wrong.
fn headers(reader: &mut Reader, key: &str) -> Option<Vec<(String, Template)>> {
    let texts = reader.texts(key, "a header", |_| true).unwrap_or_default();
    let mut headers = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let parsed = text.split_once(':').and_then(|(name, value)| {
            let known = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            if OWN_HEADERS.contains(&known) {
                return None;
            }
            let is_clean = !value.chars().any(char::is_control);
            is_clean.then(|| (name.trim().to_owned(), Template::parse(value.trim())))
        });
        match parsed {
            Some((name, Ok(value))) => headers.push((name, value)),
            Some((_, Err(text))) => reader.complain(key, text),
            None => reader.complain(
                key,
                format!(
                    "number {} must be \"Name: value\", and no header of the hub's own (content_type sets one)",
                    index + 1
                ),
            ),
        }
    }
    (headers.len() == texts.len()).then_some(headers)
}

fn mail(reader: &mut Reader, base: &Path, key: &str, warnings: &mut Vec<String>) -> Option<Mail> {
    let of = |name: &str| format!("{key}.{name}");
    for needed in ["host", "from", "to"] {
        reader.require(&of(needed));
    }
    let is_host = |text: &str| !text.is_empty() && !text.contains(['/', ':', '@', ' ']);
    let host = reader.text(&of("host"), "the name of a mail server", |text| is_host(text).then(|| text.to_owned()));
    let way = |text: &str| MailTls::ALL.into_iter().find(|tls| tls.name() == text);
    let tls = reader.text(&of("tls"), "\"starttls\", \"tls\" or \"none\"", way).unwrap_or(MailTls::StartTls);
    let default_port = match tls {
        MailTls::StartTls => 587,
        MailTls::Tls => 465,
        MailTls::None => 25,
    };
    let port = reader.whole(&of("port"), 1..=65_535).and_then(|port| u16::try_from(port).ok()).unwrap_or(default_port);
    let username = reader.text(&of("username"), "a user name", |text| (!text.is_empty()).then(|| text.to_owned()));
    let password = password(reader, base, key, warnings);
    if username.is_some() != password.is_some() {
        reader.complain(key, "needs username and one of password and password_file together, or none of them");
    }
    let is_here = matches!(host.as_deref(), Some("localhost" | "127.0.0.1"));
    if tls == MailTls::None && username.is_some() && !is_here {
        warnings.push(format!("{key}.tls: without TLS, the password goes over the network for everybody to read"));
    }
    let box_of = |text: &str| text.parse::<Mailbox>().is_ok();
    let from = reader.text(&of("from"), "a mail address", |text| box_of(text).then(|| text.to_owned()));
    let to = reader.texts(&of("to"), "a mail address", |text| box_of(text) || text.parse::<Address>().is_ok());
    if to.as_ref().is_some_and(Vec::is_empty) {
        reader.complain(&of("to"), "must name somebody");
    }
    let ca = authorities(reader, base, &of("ca"));
    let timeout = timeout(reader, key);
    Some(Mail { host: host?, port, tls, username, password, from: from?, to: to?, ca, timeout })
}

/// Reads where a password comes from.
pub(super) fn password(reader: &mut Reader, base: &Path, key: &str, warnings: &mut Vec<String>) -> Option<Password> {
    let (text_key, file_key) = (format!("{key}.password"), format!("{key}.password_file"));
    let text = reader.parsed(&text_key, |text| match text {
        "" => Err("must not be empty".to_owned()),
        text => Ok(Password::Text(text.to_owned())),
    });
    let file = reader.path(&file_key, base, "a file", |text| !text.is_empty()).map(Password::File);
    if text.is_some() && file.is_some() {
        reader.complain(&file_key, format!("must not stand beside {text_key}; leave one of them out"));
    }
    if let Some(source @ Password::File(path)) = &file {
        if let Err(error) = source.read() {
            reader.complain(&file_key, format!("{} cannot be used: {error}", path.display()));
        }
        if std::fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o004 != 0) {
            let path = path.display();
            warnings.push(format!("{path}: {file_key}: everybody on this machine can read it; chmod 600 it"));
        }
    }
    text.or(file)
}

/// Reads the name of a file of certificate authorities, and sees that it can be used.
pub(super) fn authorities(reader: &mut Reader, base: &Path, key: &str) -> Option<PathBuf> {
    let path = reader.path(key, base, "a file", |text| !text.is_empty())?;
    for (_, fault) in tls::client(Some(&path), None).err().unwrap_or_default() {
        reader.complain(key, fault.to_string());
    }
    Some(path)
}

fn command(reader: &mut Reader, base: &Path, key: &str) -> Option<ChannelKind> {
    let (program_key, arguments_key) = (format!("{key}.program"), format!("{key}.arguments"));
    reader.require(&program_key);
    // A name is looked for where programs are; a path starts from the file's directory, as all do.
    let place = |text: &str| if text.contains('/') { base.join(text) } else { PathBuf::from(text) };
    let program = |text: &str| (!text.is_empty()).then(|| place(text));
    let program = reader.text(&program_key, "a program, by its path or by its name", program);
    let texts = reader.texts(&arguments_key, "an argument", |text| !text.contains('\0')).unwrap_or_default();
    let mut arguments = Vec::new();
    for text in &texts {
        match Template::parse(text) {
            Ok(argument) => arguments.push(argument),
            Err(text) => reader.complain(&arguments_key, text),
        }
    }
    let timeout = timeout(reader, key);
    Some(ChannelKind::Command { program: program?, arguments, timeout })
}

fn timeout(reader: &mut Reader, key: &str) -> Duration {
    seconds(reader, &format!("{key}.timeout_s"), 15, 1..=300)
}
