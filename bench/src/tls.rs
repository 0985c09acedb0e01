//! A certificate authority for one run, and the upstream's certificate signed by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// What nginx is told to expect; AIProxy goes by the address in the base URL. The certificate has both.
pub(crate) const SERVER_NAME: &str = "localhost";

pub(crate) struct Authority {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) ca_file: PathBuf,
}

impl Authority {
    /// Makes both certificates and leaves the authority's where the proxies can read it.
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca_params = CertificateParams::new(Vec::new())?;
        // Without names of their own both would look self-signed to OpenSSL.
        ca_params.distinguished_name.push(DnType::CommonName, "aiproxy-bench authority");
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = ca_params.self_signed(&ca_key)?;
        let ca_file = directory.join("ca.pem");
        std::fs::write(&ca_file, ca.pem()).context("ca.pem")?;

        let leaf_key = KeyPair::generate()?;
        let mut leaf_params = CertificateParams::new([SERVER_NAME.to_owned(), "127.0.0.1".to_owned()])?;
        leaf_params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        let leaf = leaf_params.signed_by(&leaf_key, &Issuer::from_params(&ca_params, &ca_key))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)?;
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), ca_file })
    }
}
