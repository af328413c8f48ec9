//! One socket, from its first byte to its last.
//!
//! Owns the socket's two buffers, its deadlines and its end. One task does all: it reads while there is room, hands
//! what it read to `inbound`, writes acks once the store allows them and messages once the session has them. A peer
//! that does not read never keeps the task from reading, and the other way round.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Broker;
use super::counters::Counters;
use super::door::Door;
use super::end::End;
use super::inbound::Inbound;
use super::message;
use super::registry::Attachment;
use super::session::Outlet;
use super::transport;
use super::wire::{self, ConnAckProperties, Connect, Version, Will, WireError};
use crate::clock::now_ms;

/// What is read at a time, bytes.
const READ_BYTES: usize = 8 * 1024;
/// Beyond this, no more messages are put into the output; acks still are.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Beyond this, nothing more is read: the peer has to take its acks first.
const OUTPUT_BYTES_STOP: usize = 256 * 1024;
/// What is still read from a connection that was taken over, bytes.
const TAKEOVER_BYTES_MAX: usize = 1024 * 1024;
/// How long an older connection of the same client may take to end.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a peer may take to read why it is disconnected.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one socket.
pub(super) async fn serve<R, W>(reader: R, writer: W, door: Door, broker: Arc<Broker>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut socket = Socket { reader, writer, input: BytesMut::new(), output: BytesMut::new(), flushed: true };
    match door.in_time("CONNECT", socket.read_connect(&door), &broker).await {
        Ok(connect) => {
            broker.pending.leave(&door.evicted);
            socket.session(connect, &door, &broker).await;
        }
        Err(reason) => door.refuse(&broker, &reason),
    }
}

struct Socket<R, W> {
    reader: R,
    writer: W,
    input: BytesMut,
    output: BytesMut,
    /// Whether nothing waits in the writer itself, as it may below TLS and WebSocket.
    flushed: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Socket<R, W> {
    async fn read_connect(&mut self, door: &Door) -> Result<Connect, String> {
        loop {
            let version = wire::peek_version(&self.input);
            match wire::decode_connect(&mut self.input, door.packet_bytes_max) {
                Ok(Some(connect)) => return Ok(connect),
                Ok(None) => {}
                Err(error) => {
                    self.refuse(version, &error).await;
                    return Err(error.to_string());
                }
            }
            self.input.reserve(512);
            match self.reader.read_buf(&mut self.input).await {
                Ok(0) => return Err("it was closed by the peer".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Answers a CONNECT that cannot be understood, where the standard wants an answer.
    async fn refuse(&mut self, version: Option<Version>, error: &WireError) {
        match (error, version) {
            (WireError::UnsupportedVersion(_), _) => self.send_refusal(Version::V4, 1).await,
            (_, Some(Version::V5)) => self.send_refusal(Version::V5, error.reason_code()).await,
            _ => {}
        }
    }

    async fn send_refusal(&mut self, version: Version, code: u8) {
        wire::connack(&mut self.output, version, false, code, &ConnAckProperties::default());
        self.say_goodbye().await;
    }

    /// Opens the session and serves it until its end.
    async fn session(&mut self, connect: Connect, door: &Door, broker: &Arc<Broker>) {
        let (mut attachment, assigned) = match admit(&connect, broker) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                Counters::add(&broker.counters.refused, 1);
                if broker.counters.refused_lines.allows() {
                    tracing::warn!(
                        peer = %door.peer,
                        listener = %door.listener,
                        "a client was refused: {}", refusal.text
                    );
                }
                let code = if connect.version == Version::V5 { refusal.code_v5 } else { refusal.code_v4 };
                return self.send_refusal(connect.version, code).await;
            }
        };
        if let Some(identity) = &door.identity {
            let client = attachment.holding.session.client().escape_debug();
            tracing::debug!(peer = %door.peer, %client, identity, "a client has shown a certificate");
        }
        attachment.wait_for_predecessor(TAKEOVER_TIME_MAX).await;
        let wake = Arc::new(Notify::new());
        let outlet = Outlet {
            version: connect.version,
            window: usize::from(connect.properties.receive_maximum.unwrap_or(u16::MAX).min(broker.limits.inflight)),
            packet_bytes_max: connect.properties.maximum_packet_size.map_or(usize::MAX, |max| max as usize),
        };
        self.send_connack(&connect, &attachment, assigned.as_deref(), door, broker);
        let session = attachment.holding.session.clone();
        session.attach(wake.clone(), outlet, &mut self.output);
        let will = connect.will.as_deref().map(message::copy_will);
        let keep_alive = (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500));
        drop(connect);

        let mut inbound = Inbound::new(broker.clone(), attachment.holding.clone(), outlet.version, wake.clone());
        let serving = Serving { broker, attachment: &attachment, outlet, keep_alive, wake: &wake };
        let end = self.converse(&mut inbound, &serving, door.packet_bytes_max).await;
        session.detach(&wake);
        if let Some(seconds) = inbound.session_expiry_s {
            attachment.expiry = Duration::from_secs(seconds.into()).min(broker.limits.session_expiry_max);
        }
        drop(inbound);
        end.log(door.peer, session.client(), &broker.counters);
        if !matches!(end, End::Goodbye | End::Stopping)
            && let Some(will) = will
        {
            last_will(will, &attachment, broker).await;
        }
        drop(attachment);
        if outlet.version == Version::V5
            && let Some(code) = end.reason_code()
        {
            wire::disconnect(&mut self.output, outlet.version, code, None);
        }
        if !matches!(end, End::Gone(_) | End::Goodbye) {
            self.say_goodbye().await;
        }
    }

    fn send_connack(
        &mut self,
        connect: &Connect,
        attachment: &Attachment,
        assigned: Option<&str>,
        door: &Door,
        broker: &Broker,
    ) {
        let asked = connect.properties.session_expiry_s.unwrap_or(0);
        let granted = u32::try_from(attachment.expiry.as_secs()).unwrap_or(u32::MAX);
        let properties = ConnAckProperties {
            session_expiry_s: (granted != asked).then_some(granted),
            receive_maximum: Some(broker.limits.inflight),
            maximum_packet_size: u32::try_from(door.packet_bytes_max).ok(),
            assigned_client_id: assigned,
            subscription_ids_available: Some(false),
            shared_available: Some(false),
            ..ConnAckProperties::default()
        };
        wire::connack(&mut self.output, connect.version, attachment.present, 0, &properties);
    }

    /// Reads and writes until the connection has to end.
    async fn converse(&mut self, inbound: &mut Inbound, serving: &Serving<'_>, packet_bytes_max: usize) -> End {
        let mut heard = Instant::now();
        let mut deaf = false;
        let silence = tokio::time::sleep(serving.keep_alive.unwrap_or(Duration::MAX));
        tokio::pin!(silence);
        loop {
            if let Err(end) = self.process(inbound, serving, packet_bytes_max).await {
                return self.settle(inbound, serving, end).await;
            }
            if deaf {
                self.output.clear();
            }
            let reads = !inbound.is_full() && self.output.len() < OUTPUT_BYTES_STOP;
            if inbound.is_full() {
                // A client that is not read from cannot be silent.
                heard = Instant::now();
            }
            self.input.reserve(READ_BYTES);
            tokio::select! {
                written = transport::write(&mut self.writer, &mut self.output, &mut self.flushed),
                    if (!self.output.is_empty() || !self.flushed) && !deaf =>
                {
                    // A sensor may send its reading and hang up at once: what it sent is read to the end.
                    deaf = written.is_err();
                }
                read = self.reader.read_buf(&mut self.input), if reads => match read {
                    Ok(0) => return self.settle(inbound, serving, End::Gone("closed by the peer".to_owned())).await,
                    Ok(_) => heard = Instant::now(),
                    Err(error) => return End::of_read(&error),
                },
                () = serving.wake.notified() => {}
                room = room_for(inbound, serving.broker) => if room.is_err() {
                    return self.settle(inbound, serving, End::Stopping).await;
                },
                () = &mut silence, if serving.keep_alive.is_some() => {
                    let limit = serving.keep_alive.unwrap_or(Duration::MAX);
                    if heard.elapsed() >= limit {
                        return End::Silent;
                    }
                    silence.as_mut().reset(heard + limit);
                }
                () = serving.attachment.ended.cancelled() => {
                    let stopping = serving.broker.connections.is_cancelled();
                    if !stopping {
                        return self.taken_over(inbound, serving, packet_bytes_max).await;
                    }
                    return self.settle(inbound, serving, End::Stopping).await;
                }
            }
        }
    }

    /// Takes what the client had sent on this connection before it connected anew; it may not send it again.
    async fn taken_over(&mut self, inbound: &mut Inbound, serving: &Serving<'_>, packet_bytes_max: usize) -> End {
        let mut bytes = 0;
        while bytes < TAKEOVER_BYTES_MAX && !inbound.is_full() {
            self.input.reserve(READ_BYTES);
            let read = tokio::select! {
                biased;
                read = self.reader.read_buf(&mut self.input) => read,
                () = future::ready(()) => break,
            };
            match read {
                Ok(read) if read > 0 => bytes += read,
                _ => break,
            }
            if self.process(inbound, serving, packet_bytes_max).await.is_err() {
                break;
            }
        }
        End::TakenOver
    }

    /// Takes the packets that were read, hands over what came of them, and fills the output.
    async fn process(
        &mut self,
        inbound: &mut Inbound,
        serving: &Serving<'_>,
        packet_bytes_max: usize,
    ) -> Result<(), End> {
        loop {
            let received_ms = now_ms();
            let mut taken = Ok(true);
            while matches!(taken, Ok(true)) && !inbound.is_full() {
                taken = match wire::decode(serving.outlet.version, &mut self.input, packet_bytes_max) {
                    Ok(Some(packet)) => inbound.take(packet, received_ms, &mut self.output).await.map(|()| true),
                    Ok(None) => Ok(false),
                    Err(error) => Err(error.into()),
                };
            }
            // What came before a packet that ends the connection counts.
            inbound.hand_over().await?;
            let more = taken?;
            self.fill_output(inbound, serving);
            // Acks that left may have made room for packets that were read already.
            if !more || inbound.is_full() {
                break;
            }
        }
        if self.input.is_empty() && self.input.capacity() > OUTPUT_BYTES_MAX {
            self.input = BytesMut::new();
        }
        Ok(())
    }

    fn fill_output(&mut self, inbound: &mut Inbound, serving: &Serving<'_>) {
        inbound.write_acks(&mut self.output);
        let session = &serving.attachment.holding.session;
        let written = session.write_to(&mut self.output, serving.outlet, OUTPUT_BYTES_MAX);
        if written > 0 {
            Counters::add(&serving.broker.counters.delivered, written);
        }
    }

    /// Before a connection ends, lets the acks leave that its publishes are due: for a moment, or, when the hub stops,
    /// until the store has written its last.
    async fn settle(&mut self, inbound: &mut Inbound, serving: &Serving<'_>, end: End) -> End {
        let patience = match end {
            End::Stopping => Duration::MAX,
            _ => LINGER,
        };
        let impatient = tokio::time::sleep(patience);
        tokio::pin!(impatient);
        loop {
            inbound.write_acks(&mut self.output);
            if !inbound.owes_acks() && self.output.is_empty() && self.flushed {
                return end;
            }
            tokio::select! {
                written = transport::write(&mut self.writer, &mut self.output, &mut self.flushed),
                    if !self.output.is_empty() || !self.flushed =>
                {
                    if let Err(error) = written {
                        return End::Gone(error.to_string());
                    }
                }
                () = serving.wake.notified() => {}
                () = &mut impatient => return end,
                () = serving.broker.drained.cancelled() => {
                    inbound.write_acks(&mut self.output);
                    return end;
                }
            }
        }
    }

    /// Writes what is left, closes this side, and gives the peer a moment to read it: closing while it still sends
    /// would make the system throw the last words away.
    async fn say_goodbye(&mut self) {
        let goodbye = async {
            while !self.output.is_empty() {
                self.writer.write_buf(&mut self.output).await?;
            }
            self.writer.shutdown().await?;
            self.input.clear();
            while self.reader.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok::<(), std::io::Error>(())
        };
        // Whether the peer heard it or not, the connection is over.
        drop(tokio::time::timeout(LINGER, goodbye).await);
    }
}

/// What a conversation needs beside its socket.
struct Serving<'c> {
    broker: &'c Arc<Broker>,
    attachment: &'c Attachment,
    outlet: Outlet,
    keep_alive: Option<Duration>,
    wake: &'c Notify,
}

/// Why a CONNECT is refused.
struct Refusal {
    code_v4: u8,
    code_v5: u8,
    text: String,
}

/// Attaches a client to its session; returns the client id that was assigned, where it brought none.
fn admit(connect: &Connect, broker: &Arc<Broker>) -> Result<(Attachment, Option<ByteString>), Refusal> {
    if let Some(method) = &connect.properties.authentication_method {
        let text = format!("it asks for the authentication method {:?}, and the hub has none", &**method);
        return Err(Refusal { code_v4: 5, code_v5: 0x8C, text });
    }
    let v5 = connect.version == Version::V5;
    let assigned = connect.client_id.is_empty().then(|| ByteString::from(broker.new_client_id()));
    if assigned.is_some() && !v5 && !connect.clean_start {
        let text = "it has no client id and wants its session kept".to_owned();
        return Err(Refusal { code_v4: 2, code_v5: 0x85, text });
    }
    let client_id = assigned.as_ref().unwrap_or(&connect.client_id);
    let max = broker.limits.session_expiry_max;
    let expiry = match (v5, connect.clean_start) {
        (true, _) => Duration::from_secs(connect.properties.session_expiry_s.unwrap_or(0).into()).min(max),
        (false, true) => Duration::ZERO,
        (false, false) => max,
    };
    let attachment =
        broker.registry.attach(client_id, connect.clean_start, expiry, &broker.connections).map_err(|_| Refusal {
            code_v4: 3,
            code_v5: 0x97,
            text: "as many clients are connected as broker.limits.connections allows".to_owned(),
        })?;
    Ok((attachment, assigned))
}

/// Waits for the room that the next job needs, and for ever where none does.
async fn room_for(inbound: &Inbound, broker: &Broker) -> Result<(), crate::store::queue::Closed> {
    match inbound.waits_for_room() {
        Some(bytes) => broker.queue.room_for(bytes).await,
        None => future::pending().await,
    }
}

/// Publishes a will, now or after its delay, unless the client comes back before.
async fn last_will(will: Will, attachment: &Attachment, broker: &Arc<Broker>) {
    let delay = Duration::from_secs(will.delay_s.into()).min(attachment.expiry);
    let (session, connection) = (attachment.holding.session.clone(), attachment.number());
    if delay.is_zero() {
        return broker.publish_will(&will, &session).await;
    }
    let broker = broker.clone();
    tokio::spawn(async move {
        let stopping = broker.connections.clone();
        let waited = stopping.run_until_cancelled(tokio::time::sleep(delay)).await;
        if waited.is_some() && broker.registry.is_away_since(&session, connection) {
            broker.publish_will(&will, &session).await;
        }
    });
}
