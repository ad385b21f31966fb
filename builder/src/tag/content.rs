//! The content key: one digest over everything that decides an image's bytes.
//!
//! Two builds with the same key make the same image, so the key is a tag that
//! the registry can be asked for instead of building. What does not decide the
//! bytes (where the image goes, mirrors, credentials, retries, volumes, pod
//! settings) is left out, so that a colleague with another registry setting
//! still gets a hit.

use std::collections::BTreeMap;
use std::fmt;

use kiln_schemas::image::ImageDigest;
use kiln_schemas::model::{ExecutorFlags, Platform};
use serde::{Deserialize, Serialize};

use crate::order::EnvEntry;

/// Raised when the meaning of a key changes; old tags are then not found.
const VERSION: &str = "kiln content key 1";

/// 32 bytes over everything that decides an image's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentKey(String);

impl ContentKey {
    /// All 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The tag: the first 32 hexadecimal digits (128 bits), without a prefix,
    /// so that it never looks like Kiln's reserved `kiln-…` tags.
    pub fn tag(&self) -> String {
        self.0[..32].to_owned()
    }
}

impl fmt::Display for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a base image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BaseDigest {
    /// The manifest or index that its name leads to.
    Known(ImageDigest),
    /// Nobody could be asked. Keys with the name alone are stable, but a moved
    /// base is not noticed.
    Unknown,
}

/// Everything that goes into a key.
#[derive(Debug, Clone)]
pub struct ContentInputs<'a> {
    /// Digest over paths, modes and contents of the sources.
    pub sources: &'a [u8],
    /// The Dockerfile's bytes.
    pub dockerfile: &'a [u8],
    /// The stage.
    pub target: Option<&'a str>,
    /// Build arguments, rendered with an empty `IMAGE_TAG` (the tag follows
    /// from the key, so it cannot be part of it). References of required
    /// images are not among them; their keys are in `required`.
    pub build_args: &'a BTreeMap<String, Option<String>>,
    /// Labels, rendered likewise.
    pub labels: &'a BTreeMap<String, String>,
    /// The build container's environment: RUN steps do not see it, but
    /// `--build-arg NAME` without a value takes it from there.
    pub env: &'a [EnvEntry],
    /// The executor's flags; only those that decide bytes are used.
    pub flags: &'a ExecutorFlags,
    /// The platform; absent means the node's.
    pub platform: Option<&'a Platform>,
    /// Keys of required images by alias.
    pub required: &'a BTreeMap<String, ContentKey>,
    /// Base images of the needed stages, by the name in the Dockerfile.
    pub bases: &'a BTreeMap<String, BaseDigest>,
}

/// Computes the key.
pub fn key(inputs: &ContentInputs<'_>) -> ContentKey {
    let mut frame = Frames::new();
    frame.text("version", VERSION);
    frame.bytes("sources", inputs.sources);
    frame.bytes("dockerfile", inputs.dockerfile);
    frame.optional("target", inputs.target);
    for (name, value) in inputs.build_args {
        frame.text("build-arg", name);
        frame.optional("value", value.as_deref());
        if value.is_none() {
            frame.environment(name, inputs.env);
        }
    }
    for (name, value) in inputs.labels {
        frame.text("label", name);
        frame.text("value", value);
    }
    frame.flags(inputs.flags);
    frame.optional(
        "platform",
        inputs.platform.map(ToString::to_string).as_deref(),
    );
    for (alias, key) in inputs.required {
        frame.text("required", alias);
        frame.text("key", key.hex());
    }
    for (name, digest) in inputs.bases {
        frame.text("base", name);
        frame.optional(
            "digest",
            match digest {
                BaseDigest::Known(digest) => Some(digest.as_str()),
                BaseDigest::Unknown => None,
            },
        );
    }
    ContentKey(frame.finish())
}

/// Name and value with their lengths in front, so that no two different
/// sequences of fields are the same bytes.
struct Frames(blake3::Hasher);

impl Frames {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.bytes(name, value.as_bytes());
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.bytes(&format!("no {name}"), &[]),
        }
    }

    fn environment(&mut self, name: &str, env: &[EnvEntry]) {
        match env.iter().find(|entry| entry.name() == name) {
            Some(EnvEntry::Value { value, .. }) => self.text("env", value),
            Some(EnvEntry::From { source, .. }) => self.text("env from", &source.to_string()),
            None => self.text("no env", name),
        }
    }

    /// The flags of kaniko.md 1.1 that change layers, config or manifest. The
    /// extra flags of kiln.yaml are all taken, since nothing is known of them.
    fn flags(&mut self, flags: &ExecutorFlags) {
        let switch = |on: bool| if on { "1" } else { "0" };
        self.text("reproducible", switch(flags.reproducible));
        self.text("single-snapshot", switch(flags.single_snapshot));
        self.text("use-new-run", switch(flags.use_new_run));
        self.optional("snapshot-mode", flags.snapshot_mode.as_deref());
        self.optional("ignore-var-run", flags.whitelist_var_run.map(switch));
        for path in &flags.ignore_paths {
            self.text("ignore-path", path);
        }
        for flag in &flags.extra {
            self.text("extra", flag);
        }
    }

    fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests;
