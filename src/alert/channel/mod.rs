//! Channels: one message out, by whatever way its owner chose.
//!
//! Owns the ways, each in a file of its own. A channel sends one message and says how that went; when it is tried
//! again is `delivery`'s. It never looks at a rule.

mod command;
mod mail;
mod mqtt;
mod webhook;

use std::time::Duration;

use tracing::{error, info, warn};

use self::mail::Post;
use self::mqtt::States;
use self::webhook::Hook;
use super::error::AlertError;
use super::message::Message;
use crate::broker::inside::Inside;
use crate::config::alerts::{Channel, ChannelKind, Severity};

/// How long a message to the hub's own broker may take.
const BROKER_TIME_MAX: Duration = Duration::from_secs(15);

/// A channel, ready to send.
pub enum Sender {
    /// Writes into the log.
    Log,
    /// Publishes on the hub's own broker.
    Mqtt(States),
    /// Asks an HTTP server.
    Webhook(Hook),
    /// Sends a mail.
    Mail(Post),
    /// Runs a program.
    Command(command::Run),
}

impl Sender {
    /// Makes the sender of a channel.
    pub fn new(channel: &Channel, broker: &Inside) -> Sender {
        match &channel.kind {
            ChannelKind::Log => Sender::Log,
            ChannelKind::Mqtt { topic } => Sender::Mqtt(States::new(broker.clone(), topic.clone())),
            ChannelKind::Webhook(webhook) => Sender::Webhook(Hook::new(webhook.clone())),
            ChannelKind::Mail(mail) => Sender::Mail(Post::new(mail.clone())),
            ChannelKind::Command { program, arguments, timeout } => {
                Sender::Command(command::Run::new(program.clone(), arguments.clone(), *timeout))
            }
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`AlertError`]; the message may have arrived all the same.
    pub async fn send(&self, message: &Message) -> Result<(), AlertError> {
        match self {
            Sender::Log => {
                log(message);
                Ok(())
            }
            Sender::Mqtt(states) => within(BROKER_TIME_MAX, states.send(message)).await,
            Sender::Webhook(hook) => within(hook.timeout(), hook.send(message)).await,
            Sender::Mail(post) => within(post.timeout(), post.send(message)).await,
            Sender::Command(run) => within(run.timeout(), run.send(message)).await,
        }
    }
}

async fn within(timeout: Duration, sent: impl Future<Output = Result<(), AlertError>>) -> Result<(), AlertError> {
    tokio::time::timeout(timeout, sent).await.unwrap_or(Err(AlertError::Slow(timeout)))
}

fn log(message: &Message) {
    let Message { id, text, severity, .. } = message;
    let text = text.escape_debug();
    match (message.resolved, severity) {
        (true, _) | (false, Severity::Info) => info!(%id, "Alert: {text}"),
        (false, Severity::Warning) => warn!(%id, "Alert: {text}"),
        (false, Severity::Critical) => error!(%id, "Alert: {text}"),
    }
}
