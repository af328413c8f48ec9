//! A socket's TLS handshake.
//!
//! Owns the server's side of it and the words for its failures. It never reads a file: which certificates are in force
//! it is told.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// What may wait to be encrypted and sent, bytes of one connection.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// Does the handshake; returns the common name of the client's certificate, where it has shown one.
pub(super) async fn accept(
    stream: TcpStream,
    settings: Arc<ServerConfig>,
) -> Result<(TlsStream<TcpStream>, Option<String>), String> {
    let limit = |tls: &mut tokio_rustls::rustls::ServerConnection| tls.set_buffer_limit(Some(BUFFER_BYTES_MAX));
    let stream = TlsAcceptor::from(settings)
        .accept_with(stream, limit)
        .await
        .map_err(|error| format!("the TLS handshake failed: {error}"))?;
    let identity = crate::tls::identity(stream.get_ref().1.peer_certificates());
    Ok((stream, identity))
}
