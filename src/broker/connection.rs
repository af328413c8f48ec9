//! One socket, from its first byte to its last.
//!
//! Owns the socket's two buffers, its deadlines and its end. One task does all: it reads while there is room, hands
//! what it read to `inbound`, writes acks once the store allows them and messages once the session has them. A peer
//! that does not read never keeps the task from reading, and the other way round.

use std::future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::alias;
use super::connack::Welcome;
use super::counters::Counters;
use super::door::Door;
use super::end::End;
use super::inbound::{Inbound, Terms};
use super::login::{Admitted, NoEntry, Refusal, admit, log_in};
use super::pen::{Outlet, Pen};
use super::registry::Attachment;
use super::wire::{self, ConnAckProperties, Connect, Version, WireError};
use super::{Broker, connack, transport, will};
use crate::clock::Moment;

/// What is read at a time, bytes.
const READ_BYTES: usize = 8 * 1024;
/// Beyond this, no more messages are put into the output; acks still are.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Beyond this, the output counts as held: it has a message larger than most.
const OUTPUT_BYTES_FREE: usize = 128 * 1024;
/// Beyond this, nothing more is read: the peer has to take its acks first.
const OUTPUT_BYTES_STOP: usize = 256 * 1024;
/// The largest CONNECT, bytes: room for a will of 64 KiB and all else that one carries. Its sender is unknown yet.
const CONNECT_BYTES_MAX: usize = 128 * 1024;
/// What is still read from a connection that was taken over, bytes.
const TAKEOVER_BYTES_MAX: usize = 1024 * 1024;
/// How long an older connection of the same client may take to end.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(5);
/// How much of a packet counts as a sign of life before the packet is whole, bytes: a large one may take its time on a
/// slow line, one that is fed byte by byte may not.
const LIFE_BYTES: usize = 1024;
/// How long a peer may take to read why it is disconnected.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one socket.
pub(super) async fn serve<R, W>(reader: R, writer: W, door: Door, broker: Arc<Broker>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (input, output) = (BytesMut::new(), BytesMut::new());
    let mut socket = Socket { reader, writer, input, output, flushed: true, aliases: alias::Outgoing::new(0) };
    let connect = match door.in_time("CONNECT", socket.read_connect(&door), &broker).await {
        Ok(connect) => connect,
        Err(reason) => return door.refuse(&broker, &reason),
    };
    let Some(_spot) = broker.crowd.enter(door.peer.ip(), broker.limits.connections_per_address) else {
        broker.pending.leave(&door.evicted);
        return socket.turn_away(&connect, &Refusal::of_crowd(), &door, &broker).await;
    };
    let user = log_in(&connect, &door, &broker).await;
    broker.pending.leave(&door.evicted);
    match user {
        Ok(user) => socket.session(connect, user, &door, &broker).await,
        Err(NoEntry::Refused(refusal)) => socket.turn_away(&connect, &refusal, &door, &broker).await,
        Err(NoEntry::Silent(reason)) => door.refuse(&broker, &reason),
    }
}

fn count_refused(broker: &Broker, door: &Door, why: &str) {
    Counters::add(&broker.counters.refused, 1);
    if broker.counters.refused_lines.allows() {
        tracing::warn!(peer = %door.peer, "a client was refused: {why}");
    }
}

struct Socket<R, W> {
    reader: R,
    writer: W,
    input: BytesMut,
    output: BytesMut,
    /// The topic aliases that the client has learned.
    aliases: alias::Outgoing,
    /// Whether nothing waits in the writer itself, as it may below TLS and WebSocket.
    flushed: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Socket<R, W> {
    async fn read_connect(&mut self, door: &Door) -> Result<Connect, String> {
        loop {
            let version = wire::peek_version(&self.input);
            match wire::decode_connect(&mut self.input, door.packet_bytes_max.min(CONNECT_BYTES_MAX)) {
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

    /// Answers a CONNECT that is refused.
    async fn turn_away(&mut self, connect: &Connect, refusal: &Refusal, door: &Door, broker: &Broker) {
        count_refused(broker, door, &refusal.text);
        let code = if connect.version == Version::V5 { refusal.code_v5 } else { refusal.code_v4 };
        connack::refuse(&mut self.output, connect, code, &refusal.text);
        self.say_goodbye().await;
    }

    /// Opens the session and serves it until its end.
    async fn session(&mut self, connect: Connect, user: Option<Arc<str>>, door: &Door, broker: &Arc<Broker>) {
        let Admitted { mut attachment, assigned, rights, will } = match admit(&connect, user, broker) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.turn_away(&connect, &refusal, door, broker).await,
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
        let welcome = Welcome {
            connect: &connect,
            attachment: &attachment,
            assigned: assigned.as_deref(),
            packet_bytes_max: door.packet_bytes_max,
            limits: &broker.limits,
        };
        if !connack::accept(&mut self.output, &welcome) {
            return count_refused(broker, door, "it takes no packet that is as large as the answer to its CONNECT");
        }
        let session = attachment.holding.session.clone();
        session.entrust(rights.clone());
        session.attach(wake.clone(), outlet.version, &mut self.output);
        self.aliases =
            alias::Outgoing::new(connect.properties.topic_alias_maximum.unwrap_or(0).min(broker.limits.topic_aliases));
        let keep_alive_s = connack::keep_alive_s(&connect, &broker.limits);
        let keep_alive = (keep_alive_s > 0).then(|| Duration::from_millis(u64::from(keep_alive_s) * 1500));
        let terms = Terms::of(&connect, outlet);
        drop(connect);

        let mut will = will.map(|will| broker.stand(will));
        let holding = attachment.holding.clone();
        let mut inbound = Inbound::new(broker.clone(), holding, rights.clone(), terms, wake.clone());
        let serving = Serving { broker, attachment: &attachment, outlet, keep_alive, wake: &wake };
        // What was begun for this client is put in order as after any other end: the session is the next connection's.
        let conversation = AssertUnwindSafe(self.converse(&mut inbound, &serving, door.packet_bytes_max));
        let mut end = conversation.catch_unwind().await.unwrap_or(End::Panicked);
        if matches!(end, End::Stopping) {
            // Once the acks have left, the store has ended.
            will::leave(will.take(), &rights, &attachment, broker).await;
            end = self.settle(&mut inbound, &serving, end).await;
        }
        session.detach(&wake);
        broker.shares.away(&session);
        if let Some(seconds) = inbound.session_expiry_s {
            attachment.expiry = Duration::from_secs(seconds.into()).min(broker.limits.session_expiry_max);
        }
        drop(inbound);
        end.log(door.peer, session.client(), &broker.counters);
        if !matches!(end, End::Goodbye) {
            will::leave(will.take(), &rights, &attachment, broker).await;
        }
        drop(will);
        drop(attachment);
        end.tell(&mut self.output, outlet);
        if !matches!(end, End::Gone(_) | End::Goodbye | End::Stuck) {
            self.say_goodbye().await;
        }
    }

    /// Reads and writes until the connection has to end.
    async fn converse(&mut self, inbound: &mut Inbound, serving: &Serving<'_>, packet_bytes_max: usize) -> End {
        let (mut heard, mut life_bytes) = (Instant::now(), 0);
        let mut deaf = false;
        let mut share = serving.broker.partial.share();
        let (evicted, mut has_moved) = (share.evicted(), true);
        let silence = tokio::time::sleep(serving.keep_alive.unwrap_or(Duration::MAX));
        tokio::pin!(silence);
        loop {
            share.rest();
            match self.process(inbound, serving, packet_bytes_max).await {
                Ok(true) => heard = Instant::now(),
                Ok(false) => {}
                Err(end) => return self.settle(inbound, serving, end).await,
            }
            if life_bytes >= LIFE_BYTES {
                (heard, life_bytes) = (Instant::now(), 0);
            }
            share.hold(self.input.len() + self.unsent(), std::mem::take(&mut has_moved));
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
                    has_moved = true;
                }
                read = self.reader.read_buf(&mut self.input), if reads => match read {
                    Ok(0) => return self.settle(inbound, serving, End::Gone("closed by the peer".to_owned())).await,
                    Ok(bytes) => (life_bytes, has_moved) = (life_bytes + bytes, true),
                    Err(error) => return End::of_read(&error),
                },
                () = serving.wake.notified() => {}
                room = room_for(inbound, serving.broker) => if room.is_err() {
                    return End::Stopping;
                },
                () = &mut silence, if serving.keep_alive.is_some() => {
                    let limit = serving.keep_alive.unwrap_or(Duration::MAX);
                    if heard.elapsed() >= limit {
                        return End::Silent;
                    }
                    silence.as_mut().reset(heard + limit);
                }
                () = evicted.cancelled() => {
                    return if self.unsent() > 0 { End::Stuck } else { End::unfinished() };
                }
                () = serving.attachment.ended.cancelled() => {
                    let stopping = serving.broker.connections.is_cancelled();
                    if !stopping {
                        return self.taken_over(inbound, serving, packet_bytes_max).await;
                    }
                    return End::Stopping;
                }
            }
        }
    }

    /// Returns how many bytes of large messages wait for the peer to take them.
    fn unsent(&self) -> usize {
        if self.output.len() > OUTPUT_BYTES_FREE { self.output.len() } else { 0 }
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

    /// Takes the packets that were read, hands over what came of them, and fills the output; tells whether there were
    /// any.
    async fn process(
        &mut self,
        inbound: &mut Inbound,
        serving: &Serving<'_>,
        packet_bytes_max: usize,
    ) -> Result<bool, End> {
        let unread = self.input.len();
        loop {
            let received = Moment::now();
            let mut taken = Ok(true);
            while matches!(taken, Ok(true)) && !inbound.is_full() {
                taken = match wire::decode(serving.outlet.version, &mut self.input, packet_bytes_max) {
                    Ok(Some(packet)) => inbound.take(packet, received, &mut self.output).await.map(|()| true),
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
        let took = self.input.len() < unread;
        if self.input.is_empty() && self.input.capacity() > OUTPUT_BYTES_MAX {
            self.input = BytesMut::new();
        }
        // A burst leaves no large buffer behind.
        if self.output.is_empty() && self.output.capacity() > 2 * READ_BYTES {
            self.output = BytesMut::new();
        }
        Ok(took)
    }

    fn fill_output(&mut self, inbound: &mut Inbound, serving: &Serving<'_>) {
        inbound.write_acks(&mut self.output);
        let session = &serving.attachment.holding.session;
        let mut pen = Pen { out: &mut self.output, outlet: serving.outlet, aliases: &mut self.aliases };
        let written = session.write_to(serving.wake, &mut pen, OUTPUT_BYTES_MAX);
        if written > 0 {
            Counters::add(&serving.broker.counters.delivered, written);
        }
    }

    /// Before a connection ends, lets the acks leave that its publishes are due: for a moment, or, when the hub stops,
    /// until the store has written its last.
    async fn settle(&mut self, inbound: &mut Inbound, serving: &Serving<'_>, end: End) -> End {
        inbound.stop_reading();
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
            self.input = BytesMut::new();
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

/// Waits for the room that the next job needs, and for ever where none does.
async fn room_for(inbound: &Inbound, broker: &Broker) -> Result<(), crate::store::queue::Closed> {
    match inbound.waits_for_room() {
        Some(bytes) => broker.queue.room_for(bytes).await,
        None => future::pending().await,
    }
}
