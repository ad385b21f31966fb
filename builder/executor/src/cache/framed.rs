//! Digests of several parts.

use std::io::{self, Write as _};

use kiln_store::{Digest, Hasher};

/// Counts up when what a step does changes without its words changing.
const SCHEME: &str = "kiln step 4";

/// A digest of parts, each with its length in front.
pub(super) struct Framed(Hasher<io::Sink>);

impl Framed {
    pub(super) fn new(kind: &str) -> Self {
        let mut framed = Self(Hasher::new(io::sink()));
        framed.text(SCHEME);
        framed.text(kind);
        framed
    }

    pub(super) fn after(before: Digest, kind: &str) -> Self {
        let mut framed = Self::new(kind);
        framed.digest(before);
        framed
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.add(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.add(&number.to_le_bytes());
    }

    pub(super) fn digest(&mut self, digest: Digest) {
        self.add(&digest.bytes());
    }

    pub(super) fn digests(&mut self, digests: &[Digest]) {
        self.number(digests.len() as u64);
        for digest in digests {
            self.digest(*digest);
        }
    }

    pub(super) fn list<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) {
        let texts: Vec<&str> = texts.into_iter().collect();
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish().1
    }

    fn add(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes); // what goes nowhere cannot fail
    }
}
