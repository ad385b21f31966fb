//! The client against real implementations (distribution's registry, crane) and against scripted answers; the server
//! against the wire, crane, oci-client and our own client.

#![allow(
    missing_docs,
    reason = "a test binary has no readers of its documentation"
)]

mod certificates;
mod clouds;
mod faults;
mod interop;
mod login;
mod real;
mod scripted;
mod server;
mod token_server;
mod uploads;

use kiln_registry::{Descriptor, Manifest, MediaType, Reference};

/// Bytes that do not repeat, so that a piece in the wrong place changes the digest.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(next).collect()
}

/// An image without layers' content: a configuration and the descriptors given.
fn image(layers: &[Descriptor]) -> (Vec<u8>, Manifest) {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| layer.digest.to_string())
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciManifest,
        "config": Descriptor::of(MediaType::OciConfig, &config),
        "layers": layers,
    });
    (
        config,
        Manifest::new(
            MediaType::OciManifest,
            serde_json::to_vec(&manifest).unwrap(),
        ),
    )
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}
