//! MQTT 3.1.1 upstream, as rumqttc speaks it.

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event as Report, EventLoop, MqttOptions, NetworkOptions, Outgoing,
    Packet, PubRel, Publish, QoS, Request, StateError, SubscribeFilter, SubscribeReasonCode, TlsConfiguration,
    Transport,
};

use super::super::error::{Loss, SEE_CLIENT_ID, SEE_LOGIN};
use super::super::window::Again;
use super::{
    Arrival, CONNECT_TIME_MAX, Dialect, Event, PACKET_BYTES_MAX, PACKET_BYTES_MORE, Receipt, Sender, Settings, Step,
    Terms, Verdict,
};

pub(super) struct Poller(EventLoop);

/// Makes a connection's two halves.
pub(super) fn open(settings: &Settings) -> (Sender, Poller) {
    let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
    if let Some(tls) = &settings.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    if let Some((user, password)) = &settings.login {
        options.set_credentials(user, password);
    }
    options
        .set_keep_alive(settings.keep_alive)
        .set_clean_session(false)
        .set_manual_acks(true)
        .set_inflight(settings.window.saturating_add(1))
        .set_max_packet_size(settings.payload_bytes_max + PACKET_BYTES_MORE, PACKET_BYTES_MAX);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIME_MAX.as_secs());
    let (client, mut eventloop) = AsyncClient::new(options, usize::from(settings.window) + 2);
    eventloop.set_network_options(network);
    (Sender::V4(client, qos(settings.qos)), Poller(eventloop))
}

/// Returns filters as a SUBSCRIBE has them.
pub(super) fn filters(filters: &[String]) -> Vec<SubscribeFilter> {
    filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce)).collect()
}

impl Dialect for Poller {
    async fn step(&mut self) -> Result<Step, Loss> {
        let report = self.0.poll().await.map_err(loss)?;
        Ok(match report {
            Report::Incoming(packet) => step_of(packet),
            Report::Outgoing(Outgoing::Publish(id)) => Step::Event(Event::Sent(id)),
            Report::Outgoing(_) => Step::Other,
        })
    }

    fn send_again(&mut self, again: Vec<Again>, level: u8) {
        for one in again {
            self.0.pending.push_back(match one {
                Again::Release(id) => Request::PubRel(PubRel::new(id)),
                Again::Publish(id, message) => {
                    let mut publish = Publish::new(message.topic, qos(level), message.payload);
                    (publish.pkid, publish.dup, publish.retain) = (id, true, message.retain);
                    Request::Publish(publish)
                }
            });
        }
    }
}

fn step_of(packet: Packet) -> Step {
    let event = match packet {
        Packet::ConnAck(connack) => Event::Connected(Terms {
            present: connack.session_present,
            receive_max: u16::MAX,
            packet_bytes_max: None,
            retains: true,
            qos_max: 2,
        }),
        Packet::PubAck(ack) => Event::Answered(ack.pkid, Verdict::Taken),
        Packet::PubRec(ack) => Event::Received(ack.pkid),
        Packet::PubComp(ack) => Event::Answered(ack.pkid, Verdict::Taken),
        Packet::SubAck(ack) => Event::Subscribed {
            refused: ack.return_codes.iter().filter(|code| **code == SubscribeReasonCode::Failure).count(),
        },
        Packet::Publish(publish) => return Step::Arrived(Box::new(arrival(publish))),
        _ => return Step::Other,
    };
    Step::Event(event)
}

fn arrival(publish: Publish) -> Arrival {
    Arrival {
        topic: publish.topic.clone(),
        payload: Bytes::copy_from_slice(&publish.payload),
        qos: publish.qos as u8,
        retain: publish.retain,
        dup: publish.dup,
        id: publish.pkid,
        properties: None,
        receipt: Receipt::V4(Publish { payload: Bytes::new(), ..publish }),
    }
}

fn qos(level: u8) -> QoS {
    if level == 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }
}

fn loss(error: ConnectionError) -> Loss {
    match error {
        ConnectionError::Io(error) => Loss::Network(error.to_string()),
        ConnectionError::NetworkTimeout => Loss::NoAnswer(CONNECT_TIME_MAX),
        ConnectionError::FlushTimeout => Loss::Silent,
        ConnectionError::Tls(error) => Loss::Tls(error.to_string()),
        ConnectionError::ConnectionRefused(code) => refused(code),
        ConnectionError::MqttState(StateError::AwaitPingResp) => Loss::Silent,
        ConnectionError::MqttState(StateError::Io(error)) => Loss::Network(error.to_string()),
        ConnectionError::MqttState(StateError::ConnectionAborted) | ConnectionError::RequestsDone => Loss::Closed,
        other => Loss::Protocol(other.to_string(), ""),
    }
}

fn refused(code: ConnectReturnCode) -> Loss {
    let (reason, advice) = match code {
        ConnectReturnCode::BadUserNamePassword => ("bad user name or password", SEE_LOGIN),
        ConnectReturnCode::NotAuthorized => ("not authorized", SEE_LOGIN),
        ConnectReturnCode::BadClientId => ("it does not want this client id", SEE_CLIENT_ID),
        ConnectReturnCode::RefusedProtocolVersion => ("it does not speak MQTT 3.1.1", "; set bridge.protocol = 5"),
        ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => ("it is not available", ""),
    };
    Loss::Refused { reason: reason.to_owned(), advice }
}
