//! MQTT 5 upstream, as rumqttc speaks it.

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, ConnectReturnCode, Filter, Packet, PubAckReason, PubRecReason, PubRel, Publish,
    PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Report, EventLoop, MqttOptions, Request, StateError};
use rumqttc::{Outgoing as Sent, TlsConfiguration, Transport};

use super::super::error::{Loss, SEE_CLIENT_ID, SEE_LOGIN, SEE_PROTOCOL};
use super::super::outgoing::Outgoing;
use super::super::window::Again;
use super::{
    Arrival, CONNECT_TIME_MAX, Dialect, Event, PACKET_BYTES_MORE, Receipt, SESSION_EXPIRY_S, Sender, Settings, Step,
    Terms, Verdict,
};
use crate::clock::now_ms;
use crate::ingest::forward::ID_PROPERTY;
use crate::store::Properties;

/// The user property that says when the hub received a message.
const RECEIVED: &str = "stationhub-received";
/// Messages of the upstream's that may be unacknowledged.
const RECEIVE_MAX: u16 = 64;

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
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(SESSION_EXPIRY_S);
    properties.receive_maximum = Some(RECEIVE_MAX);
    properties.max_packet_size = u32::try_from(settings.payload_bytes_max + PACKET_BYTES_MORE).ok();
    options
        .set_keep_alive(settings.keep_alive)
        .set_clean_start(false)
        .set_manual_acks(true)
        .set_connect_properties(properties)
        .set_connection_timeout(CONNECT_TIME_MAX.as_secs())
        .set_outgoing_inflight_upper_limit(settings.window.saturating_add(1));
    let (client, eventloop) = AsyncClient::new(options, usize::from(settings.window) + 2);
    (Sender::V5(client, qos(settings.qos)), Poller(eventloop))
}

/// Returns filters as a SUBSCRIBE has them: the hub's own messages do not come back, retained ones come once.
pub(super) fn filters(filters: &[String]) -> Vec<Filter> {
    let filter = |filter: &String| Filter {
        path: filter.clone(),
        qos: QoS::AtLeastOnce,
        nolocal: !crate::topic::is_shared(filter),
        preserve_retain: true,
        retain_forward_rule: RetainForwardRule::OnNewSubscribe,
    };
    filters.iter().map(filter).collect()
}

/// Returns a message's properties, its identity among them.
pub(super) fn properties(message: &Outgoing) -> PublishProperties {
    let mut sent = PublishProperties::default();
    if let Some(own) = message.properties.as_deref() {
        sent.payload_format_indicator = own.payload_format;
        sent.response_topic.clone_from(&own.response_topic);
        sent.correlation_data = own.correlation_data.clone().map(Bytes::from);
        sent.content_type.clone_from(&own.content_type);
        sent.user_properties.clone_from(&own.user);
        // What waited here for longer than its life is sent all the same, and upstream only to those who listen now.
        sent.message_expiry_interval = own
            .expires_ms
            .map(|expires_ms| u32::try_from((expires_ms.saturating_sub(now_ms()) / 1000).max(1)).unwrap_or(u32::MAX));
    }
    sent.user_properties.push((ID_PROPERTY.to_owned(), message.identity.clone()));
    sent.user_properties.push((RECEIVED.to_owned(), message.received.clone()));
    sent
}

impl Dialect for Poller {
    async fn step(&mut self) -> Result<Step, Loss> {
        let report = self.0.poll().await.map_err(loss)?;
        Ok(match report {
            Report::Incoming(packet) => step_of(packet),
            Report::Outgoing(Sent::Publish(id)) => Step::Event(Event::Sent(id)),
            Report::Outgoing(_) => Step::Other,
        })
    }

    fn send_again(&mut self, again: Vec<Again>, level: u8) {
        for one in again {
            self.0.pending.push_back(match one {
                Again::Release(id) => Request::PubRel(PubRel::new(id, None)),
                Again::Publish(id, message) => {
                    let own = Some(properties(&message));
                    let mut publish = Publish::new(message.topic, qos(level), message.payload, own);
                    (publish.pkid, publish.dup, publish.retain) = (id, true, message.retain);
                    Request::Publish(publish)
                }
            });
        }
    }
}

fn step_of(packet: Packet) -> Step {
    let event = match packet {
        Packet::ConnAck(connack) => Event::Connected(terms(&connack)),
        Packet::PubAck(ack) => Event::Answered(ack.pkid, verdict(ack.reason)),
        Packet::PubRec(ack) => match verdict_of_receipt(ack.reason) {
            Verdict::Taken | Verdict::Unheard => Event::Received(ack.pkid),
            refusal => Event::Answered(ack.pkid, refusal),
        },
        Packet::PubComp(ack) => Event::Answered(ack.pkid, Verdict::Taken),
        Packet::SubAck(ack) => Event::Subscribed {
            refused: ack.return_codes.iter().filter(|code| !matches!(code, SubscribeReasonCode::Success(_))).count(),
        },
        Packet::Publish(publish) => return Step::Arrived(Box::new(arrival(publish))),
        _ => return Step::Other,
    };
    Step::Event(event)
}

fn terms(connack: &ConnAck) -> Terms {
    let properties = connack.properties.as_ref();
    Terms {
        present: connack.session_present,
        receive_max: properties.and_then(|properties| properties.receive_max).unwrap_or(u16::MAX),
        packet_bytes_max: properties
            .and_then(|properties| properties.max_packet_size)
            .and_then(|bytes| usize::try_from(bytes).ok()),
        retains: properties.and_then(|properties| properties.retain_available) != Some(0),
        qos_max: properties.and_then(|properties| properties.max_qos).unwrap_or(2),
    }
}

fn verdict(reason: PubAckReason) -> Verdict {
    match reason {
        PubAckReason::Success => Verdict::Taken,
        PubAckReason::NoMatchingSubscribers => Verdict::Unheard,
        PubAckReason::UnspecifiedError => Verdict::NotNow("unspecified error"),
        PubAckReason::ImplementationSpecificError => Verdict::NotNow("implementation specific error"),
        PubAckReason::PacketIdentifierInUse => Verdict::NotNow("packet id in use"),
        PubAckReason::QuotaExceeded => Verdict::NotNow("quota exceeded"),
        PubAckReason::NotAuthorized => Verdict::Denied,
        PubAckReason::TopicNameInvalid => Verdict::Never("topic name invalid"),
        PubAckReason::PayloadFormatInvalid => Verdict::Never("payload format invalid"),
    }
}

fn verdict_of_receipt(reason: PubRecReason) -> Verdict {
    verdict(match reason {
        PubRecReason::Success => PubAckReason::Success,
        PubRecReason::NoMatchingSubscribers => PubAckReason::NoMatchingSubscribers,
        PubRecReason::UnspecifiedError => PubAckReason::UnspecifiedError,
        PubRecReason::ImplementationSpecificError => PubAckReason::ImplementationSpecificError,
        PubRecReason::PacketIdentifierInUse => PubAckReason::PacketIdentifierInUse,
        PubRecReason::QuotaExceeded => PubAckReason::QuotaExceeded,
        PubRecReason::NotAuthorized => PubAckReason::NotAuthorized,
        PubRecReason::TopicNameInvalid => PubAckReason::TopicNameInvalid,
        PubRecReason::PayloadFormatInvalid => PubAckReason::PayloadFormatInvalid,
    })
}

fn arrival(publish: Publish) -> Arrival {
    let properties = publish.properties.as_ref().map(|properties| Properties {
        payload_format: properties.payload_format_indicator,
        response_topic: properties.response_topic.clone(),
        correlation_data: properties.correlation_data.as_ref().map(|data| data.to_vec()),
        content_type: properties.content_type.clone(),
        user: properties.user_properties.clone(),
        expires_ms: properties
            .message_expiry_interval
            .map(|seconds| now_ms().saturating_add(i64::from(seconds) * 1000)),
    });
    Arrival {
        topic: String::from_utf8(publish.topic.to_vec()).unwrap_or_default(),
        payload: Bytes::copy_from_slice(&publish.payload),
        qos: publish.qos as u8,
        retain: publish.retain,
        dup: publish.dup,
        id: publish.pkid,
        properties,
        receipt: Receipt::V5(Publish { payload: Bytes::new(), properties: None, ..publish }),
    }
}

fn qos(level: u8) -> QoS {
    if level == 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }
}

fn loss(error: ConnectionError) -> Loss {
    match error {
        ConnectionError::Io(error) => Loss::Network(error.to_string()),
        ConnectionError::Timeout(_) => Loss::NoAnswer(CONNECT_TIME_MAX),
        ConnectionError::Tls(error) => Loss::Tls(error.to_string()),
        ConnectionError::ConnectionRefused(code) => refused(code),
        ConnectionError::MqttState(error) => state_loss(error),
        ConnectionError::RequestsDone => Loss::Closed,
        other => Loss::Protocol(other.to_string(), SEE_PROTOCOL),
    }
}

fn state_loss(error: StateError) -> Loss {
    match error {
        StateError::AwaitPingResp => Loss::Silent,
        StateError::Io(error) => Loss::Network(error.to_string()),
        StateError::ConnectionAborted => Loss::Closed,
        StateError::ServerDisconnect { reason_code, reason_string } => {
            let words = reason_string.map(|words| format!(", {:?}", words.chars().take(200).collect::<String>()));
            Loss::Goodbye(format!("{reason_code:?}{}", words.unwrap_or_default()))
        }
        other @ StateError::Deserialization(_) => Loss::Protocol(other.to_string(), SEE_PROTOCOL),
        other => Loss::Protocol(other.to_string(), ""),
    }
}

fn refused(code: ConnectReturnCode) -> Loss {
    let advice = match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized | ConnectReturnCode::Banned => {
            SEE_LOGIN
        }
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => SEE_CLIENT_ID,
        ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => SEE_PROTOCOL,
        _ => "",
    };
    Loss::Refused { reason: format!("{code:?}"), advice }
}
