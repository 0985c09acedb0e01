//! Certificates made for one test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority and a certificate that it signed.
pub struct TestCertificate {
    /// The authority, in PEM.
    pub ca_pem: String,
    /// The certificate, in PEM.
    pub cert_pem: String,
    /// Its key, in PEM.
    pub key_pem: String,
}

impl TestCertificate {
    /// A certificate for `names`, signed by an authority of its own.
    pub fn new(names: &[&str]) -> Self {
        let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Self { ca_pem: issuer.pem(), cert_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}
