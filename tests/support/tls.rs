//! Certificates made for a test, the `rumqttd.toml` that names them, and a TLS client of rustls.
//!
//! Owns the authority of the end-to-end tests. It shares no code with the hub.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::mqtt::Connect;
use super::{Hub, SOON, Site};

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for this machine, with the common name.
    pub fn issue(&self, common_name: &str) -> Identity {
        self.issue_with(common_name, |_| {})
    }

    pub fn issue_with(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// Returns a client's settings: it trusts this authority, and shows `identity` where there is one.
    pub fn client(&self, identity: Option<&Identity>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

impl Identity {
    /// Writes it where a listener's files are.
    pub fn write(&self, site: &Site) {
        fs::write(site.file("hub.pem"), &self.certificate).unwrap();
        fs::write(site.file("hub.key"), &self.key).unwrap();
    }
}

/// A site with a listener of each kind, certificates by the authority: `tcp`, `tls`, `certified` (which wants a
/// client's certificate), `ws` and `wss`; a client has `connect_ms` to send its CONNECT.
pub fn site(authority: &Authority, connect_ms: u32) -> Site {
    let site = Site::with_config("[log]\nlevel = \"debug\"\n");
    authority.issue("hub").write(&site);
    fs::write(site.file("ca.pem"), authority.pem()).unwrap();
    let files = "certpath = \"hub.pem\", keypath = \"hub.key\"";
    let listeners = [
        ("v4.1", "tcp", String::new()),
        ("v4.2", "tls", format!("tls = {{ {files} }}\n")),
        ("v5.1", "certified", format!("tls = {{ {files}, capath = \"ca.pem\" }}\n")),
        ("ws.1", "ws", String::new()),
        ("ws.2", "wss", format!("tls = {{ {files} }}\n")),
    ];
    let mut text = "id = 0\n[router]\nmax_connections = 1024\nmax_outgoing_packet_count = 100\n\
                    max_segment_size = 262144\nmax_segment_count = 4\n"
        .to_owned();
    for (table, name, tls) in listeners {
        text += &format!(
            "[{table}]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\nnext_connection_delay_ms = 1\n{tls}\
             connections = {{ connection_timeout_ms = {connect_ms}, max_payload_size = 100000, max_inflight_count = 64 }}\n"
        );
    }
    fs::write(site.file("rumqttd.toml"), text).unwrap();
    site
}

/// Returns where the hub's listener of that name listens.
pub fn address(hub: &Hub, name: &str) -> SocketAddr {
    let listeners = hub.ready["listeners"].as_array().unwrap();
    let listener = listeners.iter().find(|listener| listener["name"] == name).unwrap();
    listener["address"].as_str().unwrap().parse().unwrap()
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Opens a TLS connection; the handshake is done by the first read or write.
pub fn open(address: SocketAddr, config: &ClientConfig) -> Stream {
    over(TcpStream::connect_timeout(&address, SOON).unwrap(), config)
}

pub fn over(stream: TcpStream, config: &ClientConfig) -> Stream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config.clone()), name).unwrap(), stream)
}

/// Connects as MQTT client `id`; fails as the handshake or the CONNECT does.
pub fn connect(stream: &mut (impl Read + Write), id: &str) -> io::Result<()> {
    stream.write_all(&Connect::new(4, id).bytes())?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer == [0x20, 2, 0, 0] { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
}

/// Sends a PINGREQ and waits for its answer.
pub fn ping(stream: &mut (impl Read + Write)) {
    stream.write_all(&[0xC0, 0]).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0xD0, 0]);
}

/// Reads until the peer closes; panics where it does not.
pub fn expect_closed(stream: &mut impl Read) {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it is still open");
                return;
            }
        }
    }
}
