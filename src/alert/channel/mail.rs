//! The channel that sends a mail: one for a message, over a connection of its own.
//!
//! Owns the mail's form. The conversation with the server is lettre's. Without the TLS that the configuration asks for,
//! nothing is sent, and no password leaves.

use std::fmt::Display;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Letter};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::super::error::AlertError;
use super::super::message::Message;
use crate::config::alerts::{Mail, MailTls};
use crate::tasks::{self, Name};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// The mail server, and who gets mail.
pub struct Post {
    mail: Mail,
}

impl Post {
    pub(super) fn new(mail: Mail) -> Post {
        Post { mail }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.mail.timeout
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), AlertError> {
        let letter = self.letter(message)?;
        let mail = self.mail.clone();
        // Passwords and authorities are files that may have changed.
        let transport = tasks::blocking(Name::Part("alerts channel"), move || transport(&mail)).await;
        let transport = transport.map_err(|error| AlertError::File(error.to_string()))??;
        let server = || format!("{}:{}", self.mail.host, self.mail.port);
        match transport.send(letter).await {
            Ok(_) => Ok(()),
            Err(error) if error.status().is_some() => {
                let answer = reason(&error).escape_debug().to_string();
                Err(AlertError::Refused { server: server(), answer })
            }
            Err(error) => Err(AlertError::Unreachable { server: server(), reason: reason(&error) }),
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
    let plain: String =
        id.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }).collect();
    format!("<{plain}@stationhub.invalid>")
}

fn reason(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn unmade(error: &dyn Display) -> AlertError {
    AlertError::Unmade(error.to_string())
}
