//! TLS by settings: which certificates are trusted, and whether at all.
//!
//! No process-wide provider is installed or used; each configuration carries its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::settings::{Connection, HttpVersion, Pem, SettingsError, Verification};

/// A TLS configuration for `connection`; `roots` are trusted besides its own certificates.
pub(super) fn configuration(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<Roots>,
    connection: &Connection,
) -> Result<ClientConfig, SettingsError> {
    let mut own = RootCertStore::empty();
    for pem in &connection.certificates {
        add(&mut own, pem)?;
    }
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?;
    let trusted = match connection.verification {
        Verification::Full => Some(Trusted {
            roots: roots.clone(),
            own,
            verifier: OnceLock::new(),
        }),
        Verification::Skip => None,
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            provider: provider.clone(),
            trusted,
        }));
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

/// Whom every connection trusts: the roots of Mozilla, as compiled in, and the authorities of the
/// settings. Reading them takes longer than a small build, so it waits for the first server that
/// shows a certificate; one that speaks plain http never does.
#[derive(Debug)]
pub(super) struct Roots {
    authorities: Vec<PathBuf>,
    store: OnceLock<RootCertStore>,
}

impl Roots {
    pub(super) fn new(authorities: &[PathBuf]) -> Arc<Self> {
        Arc::new(Self {
            authorities: authorities.to_vec(),
            store: OnceLock::new(),
        })
    }

    fn store(&self) -> &RootCertStore {
        self.store.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
            roots.add_parsable_certificates(mozilla);
            for file in self.authorities.iter().flat_map(|path| files(path)) {
                // What is no certificate is nobody's mistake: such folders hold other files too.
                if let Ok(pem) = Pem::from_file(&file) {
                    drop(add(&mut roots, &pem));
                }
            }
            roots
        })
    }
}

/// The files of a folder, or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    files
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

/// Checks certificates, as far as that is wanted, and always that the server holds its key.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Who vouches for a server; `None` where any certificate will do.
    trusted: Option<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    roots: Arc<Roots>,
    /// The connection's own.
    own: RootCertStore,
    verifier: OnceLock<Result<Arc<WebPkiServerVerifier>, rustls::Error>>,
}

impl Trusted {
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<&WebPkiServerVerifier, rustls::Error> {
        let made = self.verifier.get_or_init(|| {
            let mut roots = self.roots.store().clone();
            roots.extend(self.own.roots.iter().cloned());
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))
        });
        match made {
            Ok(verifier) => Ok(verifier),
            Err(error) => Err(error.clone()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trusted) = &self.trusted else {
            return Ok(ServerCertVerified::assertion());
        };
        trusted.verifier(&self.provider)?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
