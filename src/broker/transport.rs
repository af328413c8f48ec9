//! What lies between a socket and its MQTT: TLS, WebSocket, or both.
//!
//! Owns the order of their handshakes, which run in the connection's own task and under the deadline of its CONNECT, and
//! the rule that nothing stays inside them when all is written. It never reads MQTT.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
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

/// Writes once, and flushes behind the last byte; cut off anywhere, `flushed` says what is left to do.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &mut BytesMut,
    flushed: &mut bool,
) -> std::io::Result<()> {
    if !output.is_empty() {
        *flushed = false;
        writer.write_buf(output).await?;
    }
    if output.is_empty() {
        writer.flush().await?;
        *flushed = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, BufWriter};

    use super::*;

    #[tokio::test]
    async fn nothing_stays_inside_a_layer_when_all_is_written() {
        let (near, mut far) = tokio::io::duplex(8);
        // A layer that keeps everything until it is flushed.
        let mut layer = BufWriter::with_capacity(64, near);
        let (mut output, mut flushed) = (BytesMut::from(&b"twelve bytes"[..]), true);
        // The socket takes eight of them, so the flush has to wait, and is cut off.
        let cut = tokio::time::timeout(std::time::Duration::ZERO, write(&mut layer, &mut output, &mut flushed)).await;
        assert!(cut.is_err() && output.is_empty() && !flushed);
        let mut received = [0; 12];
        far.read_exact(&mut received[..8]).await.unwrap();
        write(&mut layer, &mut output, &mut flushed).await.unwrap();
        assert!(flushed);
        far.read_exact(&mut received[8..]).await.unwrap();
        assert_eq!(&received, b"twelve bytes");
    }
}
