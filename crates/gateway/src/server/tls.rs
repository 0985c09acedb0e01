//! TLS towards clients, with a certificate that can be replaced while connections are open.

use std::io;
use std::sync::Arc;

use aiproxy_config::snapshot::ServerTls;
use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

/// The certificate of the callers' port.
#[derive(Debug)]
pub struct ServerCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl ServerCertificate {
    /// Reads certificate and key.
    pub fn load(files: &ServerTls) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(read(files)?) }))
    }

    /// Reads certificate and key again. New handshakes use them; on error the old ones stay.
    pub fn reload(&self, files: &ServerTls) -> io::Result<()> {
        self.current.store(Arc::new(read(files)?));
        Ok(())
    }

    /// Accepts TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub fn acceptor(self: &Arc<Self>) -> io::Result<TlsAcceptor> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(invalid)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(files: &ServerTls) -> io::Result<CertifiedKey> {
    let name = |path: &std::path::Path, error: &dyn std::fmt::Display| invalid(format!("{}: {error}", path.display()));
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| name(&files.cert, &error))?;
    if chain.is_empty() {
        return Err(name(&files.cert, &"holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| name(&files.key, &error))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| name(&files.key, &error))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
