//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`.
//!
//! Source of the grammar: OCI image specification, descriptor.md, section "Digests".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// A registered digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the algorithm that every registry knows.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the encoded part in hexadecimal digits.
    #[must_use]
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of some bytes, valid by construction.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut verifier = Hasher::new(Algorithm::Sha256);
        verifier.update(bytes);
        verifier.finish()
    }

    /// A SHA-256 digest from the 32 bytes that a hash function gave.
    #[must_use]
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        Self {
            algorithm: Algorithm::Sha256,
            hex: to_hex(&hash),
        }
    }

    /// The digest of `bytes` under the same algorithm as `self`, to compare with `self`.
    #[must_use]
    pub fn of_same_kind(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm before the colon.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hexadecimal part after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon.
    #[error("\"{0}\" is not a digest: expected `sha256:` and 64 hexadecimal digits")]
    Malformed(String),
    /// The algorithm is none that Kiln computes.
    #[error("digest algorithm \"{0}\" is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// The encoded part has the wrong length or other characters than `0-9a-f`.
    #[error(
        "\"{hex}\" is not a {algorithm} digest: expected {expected} lower-case hexadecimal digits"
    )]
    Encoded {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// How many digits there must be.
        expected: usize,
        /// What stood there.
        hex: String,
    },
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::Malformed(text.to_owned()));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm(name.to_owned())),
        };
        let expected = algorithm.hex_len();
        if hex.len() != expected || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Encoded {
                algorithm: algorithm.name(),
                expected,
                hex: hex.to_owned(),
            });
        }
        Ok(Self {
            algorithm,
            hex: hex.to_owned(),
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// An empty hasher of `algorithm`.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of everything added so far.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hasher) => Digest {
                algorithm: Algorithm::Sha256,
                hex: to_hex(&hasher.finalize()),
            },
            State::Sha512(hasher) => Digest {
                algorithm: Algorithm::Sha512,
                hex: to_hex(&hasher.finalize()),
            },
        }
    }
}

/// Checks that a stream of bytes has the size and digest that a descriptor promised.
#[derive(Debug, Clone)]
pub struct Verifier {
    expected: Digest,
    size: u64,
    seen: u64,
    hasher: Hasher,
}

/// What a [`Verifier`] found wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Too many or too few bytes.
    #[error("{digest} should have {expected} bytes but has {}{actual}", if actual > expected { "at least " } else { "" })]
    Size {
        /// The blob.
        digest: Digest,
        /// Bytes promised by the descriptor.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// The right number of other bytes.
    #[error("content of {expected} has the digest {actual}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
}

impl Verifier {
    /// Expects `size` bytes whose digest is `expected`.
    #[must_use]
    pub fn new(expected: Digest, size: u64) -> Self {
        let hasher = Hasher::new(expected.algorithm);
        Self {
            expected,
            size,
            seen: 0,
            hasher,
        }
    }

    /// Adds the next bytes of the stream.
    ///
    /// # Errors
    /// [`Mismatch::Size`] as soon as there are more bytes than promised.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(self.size_mismatch());
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Bytes seen so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.seen
    }

    /// Whether as many bytes came as were promised.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.seen == self.size
    }

    /// To be called at the end of the stream.
    ///
    /// # Errors
    /// [`Mismatch`] when the bytes were not those that the digest names.
    pub fn finish(self) -> Result<(), Mismatch> {
        if self.seen != self.size {
            return Err(self.size_mismatch());
        }
        let actual = self.hasher.finish();
        if actual != self.expected {
            return Err(Mismatch::Digest {
                expected: self.expected,
                actual,
            });
        }
        Ok(())
    }

    fn size_mismatch(&self) -> Mismatch {
        Mismatch::Size {
            digest: self.expected.clone(),
            expected: self.size,
            actual: self.seen,
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
        hex.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180-2 test vector "abc".
    const ABC_256: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ABC_512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn computes_the_published_vectors() {
        assert_eq!(Digest::sha256(b"abc").to_string(), ABC_256);
        let wide: Digest = ABC_512.parse().unwrap();
        assert_eq!(wide.of_same_kind(b"abc"), wide);
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        assert_eq!(
            "abc".parse::<Digest>(),
            Err(DigestError::Malformed("abc".into()))
        );
        assert_eq!(
            "md5:00".parse::<Digest>(),
            Err(DigestError::Algorithm("md5".into()))
        );
        for wrong in [
            &ABC_256[..70],
            &ABC_256.to_uppercase().replace("SHA256", "sha256"),
            "sha256:",
        ] {
            assert!(
                matches!(wrong.parse::<Digest>(), Err(DigestError::Encoded { .. })),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_verifier_sees_short_long_and_changed_content() {
        let digest: Digest = ABC_256.parse().unwrap();
        let verify = |bytes: &[u8]| {
            let mut verifier = Verifier::new(digest.clone(), 3);
            for byte in bytes {
                verifier.update(&[*byte])?;
            }
            verifier.finish()
        };
        assert_eq!(verify(b"abc"), Ok(()));
        assert!(matches!(
            verify(b"ab"),
            Err(Mismatch::Size { actual: 2, .. })
        ));
        assert!(matches!(
            verify(b"abcd"),
            Err(Mismatch::Size { actual: 4, .. })
        ));
        assert!(matches!(verify(b"abd"), Err(Mismatch::Digest { .. })));
    }
}
