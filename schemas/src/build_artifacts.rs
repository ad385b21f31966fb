//! The list of built images that `build -q` prints and `deploy
//! --build-artifacts` reads, in skaffold's JSON:
//! `{"builds":[{"imageName":"app","tag":"registry/app:v1@sha256:…"}]}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::{BadDigest, BuiltImage, ImageDigest};

/// A list of built images could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BuildArtifactsError {
    /// It is not JSON of the expected shape.
    #[error("this is not a list of built images: {{\"builds\": [{{\"imageName\", \"tag\"}}]}}")]
    Json(#[source] serde_json::Error),
    /// An entry says nothing to deploy.
    #[error("no tag provided for image `{image}`")]
    NoTag {
        /// Its name.
        image: String,
    },
    /// The part behind `@` is no digest.
    #[error("the tag of image `{image}` carries no valid digest")]
    Digest {
        /// Its name.
        image: String,
        /// What is wrong with it.
        #[source]
        source: BadDigest,
    },
}

#[derive(Serialize, Deserialize)]
struct List {
    builds: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    image_name: String,
    #[serde(default)]
    tag: String,
}

/// Reads a list; fields that other versions add to an entry are left alone.
pub fn read(text: &str) -> Result<Vec<BuiltImage>, BuildArtifactsError> {
    let list: List = serde_json::from_str(text).map_err(BuildArtifactsError::Json)?;
    list.builds.into_iter().map(Entry::into_image).collect()
}

/// Writes a list, each tag with its digest where that is known.
pub fn write(images: &[BuiltImage]) -> String {
    let builds = images
        .iter()
        .map(|image| Entry {
            image_name: image.name.clone(),
            tag: image.pinned(),
        })
        .collect();
    serde_json::to_string(&List { builds }).expect("strings in structs are always JSON")
}

impl Entry {
    fn into_image(self) -> Result<BuiltImage, BuildArtifactsError> {
        let Self {
            image_name: name,
            tag,
        } = self;
        if tag.is_empty() {
            return Err(BuildArtifactsError::NoTag { image: name });
        }
        let (reference, digest) = match tag.split_once('@') {
            None => (tag, None),
            Some((reference, digest)) => {
                let digest =
                    ImageDigest::parse(digest).map_err(|source| BuildArtifactsError::Digest {
                        image: name.clone(),
                        source,
                    })?;
                (reference.to_owned(), Some(digest))
            }
        };
        Ok(BuiltImage {
            name,
            reference,
            digest,
            placed: BTreeMap::new(),
            workdir: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skaffolds_list_is_read_and_written() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            r#"{{"builds":[{{"imageName":"app","tag":"r.example/app:v1@{digest}"}},{{"imageName":"db","tag":"db:2"}}]}}"#
        );
        let images = read(&text).unwrap();
        assert_eq!(images[0].reference, "r.example/app:v1");
        assert_eq!(images[0].digest.as_ref().unwrap().as_str(), digest);
        assert_eq!(
            (images[1].reference.as_str(), &images[1].digest),
            ("db:2", &None)
        );
        assert_eq!(write(&images), text);
    }

    #[test]
    fn an_entry_without_a_tag_names_its_image() {
        let error = read(r#"{"builds":[{"imageName":"app"}]}"#).unwrap_err();
        assert_eq!(error.to_string(), "no tag provided for image `app`");
        assert!(matches!(read("[]"), Err(BuildArtifactsError::Json(_))));
        let bad = r#"{"builds":[{"imageName":"app","tag":"app:1@sha256:00"}]}"#;
        assert!(matches!(read(bad), Err(BuildArtifactsError::Digest { .. })));
    }
}
