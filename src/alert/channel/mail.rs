//! The channel that sends a mail: one for a message, over a connection of its own.
//!
//! Owns the mail's form. The conversation with the server is lettre's. Without the TLS that the configuration asks for,
//! nothing is sent, and no password leaves.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Letter};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::super::error::AlertError;
use super::super::message::Message;
use crate::config::alerts::{Mail, MailTls};
use crate::log::Rate;
use crate::tasks::{self, Name};

/// A line of a mail has at most 998 characters: an id that is longer is told by its digest.
const ID_CHARS_MAX: usize = 200;
/// How often it is told that some recipients are refused.
const REFUSED_LINE_INTERVAL: Duration = Duration::from_secs(600);

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// The mail server, and who gets mail.
pub struct Post {
    mail: Mail,
    /// The message that was tried last, and who got it.
    got: Mutex<(String, Vec<Address>)>,
    refused_lines: Rate,
}

impl Post {
    pub(super) fn new(mail: Mail) -> Post {
        Post { mail, got: Mutex::default(), refused_lines: Rate::new(1, REFUSED_LINE_INTERVAL) }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.mail.timeout
    }

    /// Sends a mail to each recipient by itself: one that the server does not know keeps it from nobody else.
    pub(super) async fn send(&self, message: &Message) -> Result<(), AlertError> {
        let letter = self.letter(message)?;
        let mail = self.mail.clone();
        // Passwords and authorities are files that may have changed.
        let transport = tasks::blocking(Name::Part("alerts channel"), move || transport(&mail)).await;
        let transport = transport.map_err(|error| AlertError::File(error.to_string()))??;
        let (mut refused, mut failed) = (None, None);
        for to in letter.envelope().to() {
            if self.has(message, to) {
                continue;
            }
            let envelope = Envelope::new(letter.envelope().from().cloned(), vec![to.clone()]);
            let envelope = envelope.map_err(|error| unmade(&error))?;
            match transport.send_raw(&envelope, &letter.formatted()).await {
                Ok(_) => self.got().1.push(to.clone()),
                Err(error) => match self.error(to, &error) {
                    error if error.is_final() => refused = Some(error),
                    error => failed = Some(error),
                },
            }
        }
        let nobody_got_it = self.got().1.is_empty();
        match (failed, refused) {
            (Some(error), _) => Err(error),
            (None, Some(error)) if nobody_got_it => Err(error),
            (None, Some(error)) => {
                if self.refused_lines.allows() {
                    warn!("an alert has reached its other recipients: {error}");
                }
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// Tells whether a recipient got this message in an earlier attempt.
    fn has(&self, message: &Message, to: &Address) -> bool {
        let mut got = self.got();
        if got.0 != message.id {
            *got = (message.id.clone(), Vec::new());
        }
        got.1.contains(to)
    }

    fn got(&self) -> MutexGuard<'_, (String, Vec<Address>)> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, to: &Address, error: &smtp::Error) -> AlertError {
        let server = format!("{}:{}", self.mail.host, self.mail.port);
        match error.status() {
            None => AlertError::Unreachable { server, reason: reason(error) },
            Some(_) => {
                let answer = format!("{} for {to}", reason(error).escape_debug());
                AlertError::Refused { server, answer, is_final: error.is_permanent() }
            }
        }
    }

    fn letter(&self, message: &Message) -> Result<Letter, AlertError> {
        let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|error| unmade(&error));
        let subject: String = message.title.chars().filter(|letter| !letter.is_control()).collect();
        let mut letter = Letter::builder()
            .from(mailbox(&self.mail.from)?)
            .subject(subject)
            .message_id(Some(message_id(&message.id)))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.mail.to {
            letter = letter.to(mailbox(to)?);
        }
        letter
            .body(format!("{}\n\n-- \nstationhub on {}\n", message.text, message.station))
            .map_err(|error| unmade(&error))
    }
}

fn transport(mail: &Mail) -> Result<Transport, AlertError> {
    let tls = match mail.tls {
        MailTls::None => Tls::None,
        MailTls::StartTls => Tls::Required(parameters(mail)?),
        MailTls::Tls => Tls::Wrapper(parameters(mail)?),
    };
    let mut builder = Transport::builder_dangerous(&mail.host).port(mail.port).timeout(Some(mail.timeout)).tls(tls);
    if let (Some(user), Some(password)) = (&mail.username, &mail.password) {
        let password = password.read().map_err(|error| AlertError::File(format!("the password: {error}")))?;
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    Ok(builder.build())
}

fn parameters(mail: &Mail) -> Result<TlsParameters, AlertError> {
    let mut builder = TlsParameters::builder(mail.host.clone());
    if let Some(ca) = &mail.ca {
        let file = |error: &dyn Display| AlertError::File(format!("{}: {error}", ca.display()));
        let pem = std::fs::read(ca).map_err(|error| file(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| file(&error))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|error| AlertError::File(reason(&error)))
}

/// Returns an id in the form that mail wants: the same message is one mail, however often it is sent.
fn message_id(id: &str) -> String {
    let mut plain: String =
        id.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }).collect();
    if plain.len() > ID_CHARS_MAX {
        let digest = Sha256::digest(id.as_bytes());
        plain = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    }
    format!("<{plain}@stationhub.invalid>")
}

fn reason(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn unmade(error: &dyn Display) -> AlertError {
    AlertError::Unmade(error.to_string())
}
