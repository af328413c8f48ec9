//! A WebSocket as a stream of bytes.
//!
//! Owns the upgrade with the sub-protocol `mqtt`, and the adapter between binary messages and bytes: an MQTT packet may
//! span messages or share one (MQTT 5, 6.0). It never reads MQTT.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

use super::transport::Duplex;

/// What is read at a time, bytes.
const READ_BYTES: usize = 4 * 1024;
/// Largest message that is sent, bytes of payload.
const SENT_BYTES_MAX: usize = 16 * 1024;
/// Sub-protocols, the best first: the registered name, and the one of clients from before it.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
const PROTOCOL_HEADER: &str = "sec-websocket-protocol";

/// The messages of a WebSocket, read and written as bytes.
pub(super) struct WebSocket {
    stream: WebSocketStream<Box<dyn Duplex>>,
    unread: Bytes,
}

/// Answers the upgrade; messages may have up to `message_bytes_max`.
pub(super) async fn accept(stream: Box<dyn Duplex>, message_bytes_max: usize) -> Result<WebSocket, String> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    match tokio_tungstenite::accept_hdr_async_with_config(stream, choose, Some(config)).await {
        Ok(stream) => Ok(WebSocket { stream, unread: Bytes::new() }),
        Err(Error::Http(_)) => Err("its WebSocket does not offer the sub-protocol mqtt".to_owned()),
        Err(error) => Err(format!("the WebSocket upgrade failed: {error}")),
    }
}

/// Chooses the sub-protocol; refuses a client that offers none of ours.
#[allow(clippy::result_large_err)] // the callback's type is tungstenite's
fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offers = request.headers().get_all(PROTOCOL_HEADER);
    let offered: Vec<&str> =
        offers.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim).collect();
    match PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol)) {
        Some(protocol) => {
            response.headers_mut().insert(PROTOCOL_HEADER, HeaderValue::from_static(protocol));
            Ok(response)
        }
        None => {
            let mut refusal = ErrorResponse::new(Some("the sub-protocol must be mqtt\n".to_owned()));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            Err(refusal)
        }
    }
}

impl WebSocket {
    /// Waits for bytes; `None` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Ok(Some(bytes))),
                Some(Ok(Message::Text(_))) => {
                    self.say_close(CloseCode::Unsupported, cx);
                    return Poll::Ready(Err(invalid("a text message came over its WebSocket, and MQTT is binary")));
                }
                // Pings are answered, and the end is, by the next call.
                Some(Ok(_)) => {}
                // A peer that hangs up without a word has ended, as it has over TCP.
                None | Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                    return Poll::Ready(Ok(None));
                }
                Some(Err(error)) => {
                    match &error {
                        Error::Capacity(_) => self.say_close(CloseCode::Size, cx),
                        Error::Protocol(_) => self.say_close(CloseCode::Protocol, cx),
                        Error::Utf8(_) => self.say_close(CloseCode::Invalid, cx),
                        _ => {}
                    }
                    return Poll::Ready(Err(io_error(error)));
                }
            }
        }
    }

    /// Tells the peer why it ends, as far as the socket takes it now: the connection is over either way.
    fn say_close(&mut self, code: CloseCode, cx: &mut Context<'_>) {
        let close = Message::Close(Some(CloseFrame { code, reason: "".into() }));
        if Pin::new(&mut self.stream).start_send(close).is_ok()
            && Pin::new(&mut self.stream).poll_flush(cx).is_pending()
        {
            tracing::trace!("a peer does not take the reason why its WebSocket is closed");
        }
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            match ready!(self.poll_bytes(cx))? {
                Some(bytes) => self.unread = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        if self.unread.is_empty() {
            // A spent slice would keep its whole message in memory.
            self.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.stream).poll_ready(cx)).map_err(io_error)?;
        let bytes = &bytes[..bytes.len().min(SENT_BYTES_MAX)];
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.stream).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx).map_err(io_error)
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::AlreadyClosed | Error::ConnectionClosed => io::ErrorKind::BrokenPipe.into(),
        error => invalid(&error.to_string()),
    }
}

/// An error that the peer has made.
fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}
