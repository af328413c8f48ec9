//! The client's side of TLS, for the way upstream.
//!
//! Owns whom the hub trusts there, and what it shows of itself. It never opens a socket.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::{Faults, Role, TlsError, authorities, chain, key, misfit, unusable};

/// Returns the settings of a client for TLS 1.2 and 1.3. It trusts the authorities in the file `ca`, or without one those
/// that the system trusts, and shows the certificate of `identity`, which has its key beside it.
///
/// # Errors
/// [`Faults`].
pub fn client(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, Faults> {
    let mut faults = Vec::new();
    let trusted = ca.map_or_else(of_the_system, authorities);
    let trusted = trusted.map_err(|error| faults.push((Role::Authorities, error))).ok();
    let shown = identity.map(|(certificate, secret)| {
        let chain = chain(certificate).map_err(|error| faults.push((Role::Certificate, error))).ok();
        let secret = key(secret).map_err(|error| faults.push((Role::Key, error))).ok();
        chain.zip(secret)
    });
    let (Some(trusted), true) = (trusted, faults.is_empty()) else {
        return Err(faults);
    };
    // Named, not the process's default: which that is would depend on who else asked for one.
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            vec![unusable(Role::Authorities, ca.unwrap_or(Path::new("")), "certificate authority", &error)]
        })?
        .with_root_certificates(trusted);
    let settings = match (shown.flatten(), identity) {
        (Some((chain, secret)), Some((certificate, path))) => {
            builder.with_client_auth_cert(chain, secret).map_err(|error| vec![misfit(&error, certificate, path)])?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(settings))
}

/// Returns the authorities that the system trusts; those among them that rustls cannot use are left out.
fn of_the_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let reason = if errors.is_empty() { "none was found".to_owned() } else { errors.join("; ") };
        return Err(TlsError::NoneTrusted { reason });
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::PathBuf;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ServerConnection};
    use tempfile::TempDir;

    use super::*;
    use crate::tls::{Certificates, Files};

    /// An authority's certificate, and one with its key for a host by it, in files.
    struct Issued {
        dir: TempDir,
    }

    impl Issued {
        fn new(name: &str) -> Issued {
            let issued = Issued { dir: tempfile::tempdir().unwrap() };
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            fs::write(issued.path("ca.pem"), authority.pem()).unwrap();
            fs::write(issued.path("own.pem"), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
            fs::write(issued.path("own.key"), key.serialize_pem()).unwrap();
            issued
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Returns a listener by this authority; with `clients`, those must show a certificate by it.
        fn listener(&self, clients: bool) -> ServerConnection {
            let client_ca = clients.then(|| self.path("ca.pem"));
            let files = Files { certificate: self.path("own.pem"), key: self.path("own.key"), client_ca };
            ServerConnection::new(Certificates::read("up", files).unwrap().0.current()).unwrap()
        }

        fn client(&self, identity: Option<&Issued>) -> Arc<ClientConfig> {
            let identity = identity.map(|issued| (issued.path("own.pem"), issued.path("own.key")));
            let identity = identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            client(Some(&self.path("ca.pem")), identity).unwrap()
        }
    }

    /// Carries a handshake from one side to the other until both are done; fails as the first of them does.
    fn handshake(client: Arc<ClientConfig>, name: &str, mut server: ServerConnection) -> Result<(), rustls::Error> {
        let mut client = ClientConnection::new(client, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn only_a_server_by_the_authority_and_of_that_name_or_address_is_trusted() {
        for (issued_for, others) in [("up.example", ["down.example", "::1"]), ("::1", ["::2", "up.example"])] {
            let up = Issued::new(issued_for);
            handshake(up.client(None), issued_for, up.listener(false)).unwrap();
            for other in others {
                let refused = handshake(up.client(None), other, up.listener(false));
                assert!(matches!(refused, Err(rustls::Error::InvalidCertificate(_))), "{other}: {refused:?}");
            }
            let stranger = Issued::new(issued_for);
            let refused = handshake(stranger.client(None), issued_for, up.listener(false));
            assert!(matches!(refused, Err(rustls::Error::InvalidCertificate(_))), "{refused:?}");
        }
    }

    #[test]
    fn the_hubs_own_certificate_is_shown_to_a_server_that_wants_one() {
        let up = Issued::new("up.example");
        handshake(up.client(Some(&up)), "up.example", up.listener(true)).unwrap();
        let refused = handshake(up.client(None), "up.example", up.listener(true));
        assert!(refused.is_err(), "without a certificate");
        let stranger = Issued::new("up.example");
        let refused = handshake(up.client(Some(&stranger)), "up.example", up.listener(true));
        assert!(refused.is_err(), "with another authority's");
    }

    #[test]
    fn every_file_at_fault_is_told_with_its_role() {
        let up = Issued::new("up.example");
        let missing = (up.path("a"), up.path("b"));
        let faults = client(Some(&up.path("c")), Some((&missing.0, &missing.1))).unwrap_err();
        let roles: Vec<Role> = faults.iter().map(|(role, _)| *role).collect();
        assert_eq!(roles, [Role::Authorities, Role::Certificate, Role::Key]);
        let other = Issued::new("up.example");
        let mixed = client(Some(&up.path("ca.pem")), Some((&up.path("own.pem"), &other.path("own.key"))));
        let faults = mixed.map(|_| ()).unwrap_err();
        assert!(faults[0].0 == Role::Key && faults[0].1.to_string().contains("is not the key of"), "{faults:?}");
        fs::write(up.path("ca.pem"), "").unwrap();
        let faults = client(Some(&up.path("ca.pem")), None).map(|_| ()).unwrap_err();
        assert!(faults[0].1.to_string().contains("holds no certificate in PEM form"), "{faults:?}");
    }
}
