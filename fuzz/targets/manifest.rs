//! Any bytes are a manifest or none; one that is read can be written and read again.

use kiln_registry::{Digest, Manifest, ManifestBody, MediaType};

/// Reads the bytes with each of the four types, and with the type that they name themselves.
pub fn run(data: &[u8]) {
    let types = MediaType::MANIFESTS.map(|media_type| media_type.as_str().to_owned());
    for declared in types.iter().map(|text| Some(text.as_str())).chain([None]) {
        let bytes = data.to_vec().into();
        let manifest = Manifest::received(declared, Digest::sha256(data), bytes);
        let Ok(body) = manifest.parse() else {
            continue;
        };
        let text = match &body {
            ManifestBody::Image(image) => serde_json::to_vec(image),
            ManifestBody::Index(index) => serde_json::to_vec(index),
        };
        let text = text.expect("what was read can be written");
        let again = Manifest::new(manifest.media_type().clone(), text);
        assert_eq!(again.parse().expect("what was written can be read"), body);
    }
}
