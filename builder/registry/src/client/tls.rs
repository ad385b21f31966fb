//! TLS by settings: which certificates are trusted, and whether at all.
//!
//! No process-wide provider is installed or used; each configuration carries its own.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::settings::{Connection, HttpVersion, Pem, SettingsError, Verification};

/// A TLS configuration for `connection`; `roots` are trusted besides its own certificates.
pub(super) fn configuration(
    provider: &Arc<CryptoProvider>,
    roots: &RootCertStore,
    connection: &Connection,
) -> Result<ClientConfig, SettingsError> {
    let mut roots = roots.clone();
    for pem in &connection.certificates {
        add(&mut roots, pem)?;
    }
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?;
    let builder = match connection.verification {
        Verification::Full => builder.with_root_certificates(roots),
        Verification::Skip => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider.clone()))),
    };
    let mut config = match &connection.client_certificate {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(certificates(&own.chain)?, private_key(&own.key)?)
            .map_err(|source| SettingsError::Certificate {
                origin: own.chain.origin().to_owned(),
                source,
            })?,
    };
    config.alpn_protocols = match connection.http {
        HttpVersion::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

/// The roots that Mozilla trusts, as compiled in.
pub(super) fn built_in_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    roots
}

fn add(roots: &mut RootCertStore, pem: &Pem) -> Result<(), SettingsError> {
    let authorities = certificates(pem)?;
    let offered = authorities.len();
    let (added, _) = roots.add_parsable_certificates(authorities);
    if added == 0 && offered > 0 {
        return Err(SettingsError::Certificate {
            origin: pem.origin().to_owned(),
            source: rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding),
        });
    }
    Ok(())
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.bytes()).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(SettingsError::Pem {
            origin: pem.origin().to_owned(),
            expected: "certificate",
        }),
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, SettingsError> {
    PrivateKeyDer::from_pem_slice(pem.bytes()).map_err(|_| SettingsError::Pem {
        origin: pem.origin().to_owned(),
        expected: "private key",
    })
}

/// Accepts any certificate, but still checks that the server holds its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
