//! rumqttc alone: what the library publishes in a second when messages come out of memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};

/// Messages in flight: the hub's default.
pub(crate) const WINDOW: u16 = 100;
/// As long as the weather JSON of the generator.
const PAYLOAD_BYTES: usize = 234;
const DEADLINE: Duration = Duration::from_secs(300);

/// Publishes `messages` at QoS 1 and returns how many were acknowledged in a second.
pub(crate) fn rate(upstream: SocketAddr, messages: u64) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(DEADLINE, publish(upstream, messages)).await? })
}

async fn publish(upstream: SocketAddr, messages: u64) -> Result<f64> {
    let mut options = MqttOptions::new("plain", upstream.ip().to_string(), upstream.port());
    options.set_outgoing_inflight_upper_limit(WINDOW);
    let (client, mut eventloop) = AsyncClient::new(options, usize::from(WINDOW));
    let publisher = tokio::spawn(async move {
        for number in 0..messages {
            let properties = PublishProperties {
                user_properties: vec![
                    ("stationhub-id".to_owned(), format!("station:{}", 1_764_000_000_000 + number)),
                    ("stationhub-received".to_owned(), "2026-01-01T00:00:00.000Z".to_owned()),
                ],
                ..PublishProperties::default()
            };
            let (topic, payload) = ("stations/station/bench/0/weathermeters", vec![b'x'; PAYLOAD_BYTES]);
            client.publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties).await?;
        }
        Ok::<AsyncClient, rumqttc::v5::ClientError>(client)
    });
    let (mut start, mut acked) = (Instant::now(), 0);
    while acked < messages {
        match eventloop.poll().await? {
            Event::Incoming(Packet::ConnAck(_)) => start = Instant::now(),
            Event::Incoming(Packet::PubAck(_)) => acked += 1,
            Event::Incoming(Packet::Disconnect(why)) => bail!("the upstream ends it: {why:?}"),
            _ => {}
        }
    }
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    drop(publisher.await??);
    Ok(rate)
}
