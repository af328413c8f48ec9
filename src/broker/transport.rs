//! What lies between a socket and its MQTT: TLS, WebSocket, or both.
//!
//! Owns the order of their handshakes, which run in the connection's own task and under the deadline of its CONNECT.
//! It never reads MQTT.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::door::Door;
use super::{Broker, connection, tls, websocket};
use crate::tls::Certificates;

/// What a listener puts between its sockets and MQTT.
#[derive(Clone)]
pub(super) struct Transport {
    pub(super) tls: Option<Arc<Certificates>>,
    pub(super) websocket: bool,
}

/// Any stream of bytes, both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Transport {
    /// Tells whether there is nothing between.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none() && !self.websocket
    }

    /// Opens what lies between, and serves the connection.
    pub(super) async fn serve(self, stream: TcpStream, mut door: Door, broker: Arc<Broker>) {
        match self.open(stream, &mut door, &broker).await {
            Ok(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                connection::serve(reader, writer, door, broker).await;
            }
            Err(reason) => door.refuse(&broker, &reason),
        }
    }

    async fn open(&self, stream: TcpStream, door: &mut Door, broker: &Broker) -> Result<Box<dyn Duplex>, String> {
        let stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(stream),
            Some(certificates) => {
                let handshake = tls::accept(stream, certificates.current());
                let (stream, identity) = door.in_time("TLS handshake", handshake, broker).await?;
                door.identity = identity;
                Box::new(stream)
            }
        };
        if !self.websocket {
            return Ok(stream);
        }
        let upgrade = websocket::accept(stream, door.packet_bytes_max);
        let stream = door.in_time("WebSocket upgrade", upgrade, broker).await?;
        Ok(Box::new(stream))
    }
}
