//! The media types of manifests, configurations and layers, with what each says about vendor and compression.
//!
//! Sources: OCI image specification, media-types.md; distribution, "Image Manifest Version 2, Schema 2".

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whose vocabulary a media type belongs to. One manifest never mixes the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// `application/vnd.docker.*`
    Docker,
    /// `application/vnd.oci.*`
    Oci,
}

/// How the tar of a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, also eStargz.
    Gzip,
    /// zstd, also zstd:chunked; exists in the OCI vocabulary only.
    Zstd,
}

macro_rules! media_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A media type that Kiln knows by name, or any other.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum MediaType {
            $($(#[$doc])* $name,)*
            /// Anything else, as written.
            Other(String),
        }

        impl MediaType {
            /// The media type as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for MediaType {
            /// Parameters such as `; charset=utf-8` are dropped.
            fn from(text: &str) -> Self {
                let bare = text.split(';').next().unwrap_or_default().trim();
                match bare {
                    $($text => Self::$name,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }
    };
}

media_types! {
    /// Docker image manifest, version 2, schema 2.
    DockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list (several platforms).
    DockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker schema 1, which no registry writes any more; refused with an explanation.
    DockerSchema1 = "application/vnd.docker.distribution.manifest.v1+json";
    /// Docker schema 1 with a signature; refused like the other.
    DockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// Docker image configuration.
    DockerConfig = "application/vnd.docker.container.image.v1+json";
    /// Docker layer without compression.
    DockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, gzip.
    DockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer that may only be fetched from its own URLs.
    DockerForeignLayerGzip = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// OCI image manifest.
    OciManifest = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index (several platforms).
    OciIndex = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    OciConfig = "application/vnd.oci.image.config.v1+json";
    /// The two bytes `{}` in place of a configuration.
    OciEmpty = "application/vnd.oci.empty.v1+json";
    /// OCI layer without compression.
    OciLayer = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    OciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    OciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// OCI layer that is not to be distributed.
    OciForeignLayer = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// OCI layer that is not to be distributed, gzip.
    OciForeignLayerGzip = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    /// OCI layer that is not to be distributed, zstd.
    OciForeignLayerZstd = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
}

impl MediaType {
    /// The four manifest types that Kiln reads, in the order of the `Accept` header.
    pub const MANIFESTS: [Self; 4] = [
        Self::OciManifest,
        Self::OciIndex,
        Self::DockerManifest,
        Self::DockerList,
    ];

    /// Whether this is a list of manifests.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self, Self::DockerList | Self::OciIndex)
    }

    /// Whether this is the manifest of one image.
    #[must_use]
    pub fn is_image(&self) -> bool {
        matches!(self, Self::DockerManifest | Self::OciManifest)
    }

    /// Whether this is a layer that must not be pushed to other registries.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(
            self,
            Self::DockerForeignLayerGzip
                | Self::OciForeignLayer
                | Self::OciForeignLayerGzip
                | Self::OciForeignLayerZstd
        )
    }

    /// How a layer of this type is compressed; `None` when this is not a known layer type.
    ///
    /// Layers do lie about it in the wild: check the magic number too.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        match self {
            Self::DockerLayer | Self::OciLayer | Self::OciForeignLayer => Some(Compression::None),
            Self::DockerLayerGzip
            | Self::DockerForeignLayerGzip
            | Self::OciLayerGzip
            | Self::OciForeignLayerGzip => Some(Compression::Gzip),
            Self::OciLayerZstd | Self::OciForeignLayerZstd => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Whose vocabulary this belongs to, if it is known.
    #[must_use]
    pub fn vendor(&self) -> Option<Vendor> {
        let text = self.as_str();
        if text.starts_with("application/vnd.docker.") {
            Some(Vendor::Docker)
        } else if text.starts_with("application/vnd.oci.") {
            Some(Vendor::Oci)
        } else {
            None
        }
    }

    /// The same kind of object in the vocabulary of `vendor`; the bytes it describes stay the same.
    ///
    /// `None` where that vocabulary has no word for it: Docker knows no zstd layers.
    #[must_use]
    pub fn relabelled(&self, vendor: Vendor) -> Option<Self> {
        const PAIRS: [(MediaType, MediaType); 6] = [
            (MediaType::DockerManifest, MediaType::OciManifest),
            (MediaType::DockerList, MediaType::OciIndex),
            (MediaType::DockerConfig, MediaType::OciConfig),
            (MediaType::DockerLayer, MediaType::OciLayer),
            (MediaType::DockerLayerGzip, MediaType::OciLayerGzip),
            (
                MediaType::DockerForeignLayerGzip,
                MediaType::OciForeignLayerGzip,
            ),
        ];
        if self.vendor() == Some(vendor) {
            return Some(self.clone());
        }
        PAIRS.into_iter().find_map(|(docker, oci)| match vendor {
            Vendor::Oci => (docker == *self).then_some(oci),
            Vendor::Docker => (oci == *self).then_some(docker),
        })
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_does_not_hide_the_type() {
        assert_eq!(
            MediaType::from("application/vnd.oci.image.index.v1+json; charset=utf-8"),
            MediaType::OciIndex
        );
    }

    #[test]
    fn relabelling_never_invents_a_docker_zstd_layer() {
        assert_eq!(MediaType::OciLayerZstd.relabelled(Vendor::Docker), None);
        assert_eq!(
            MediaType::OciLayerGzip.relabelled(Vendor::Docker),
            Some(MediaType::DockerLayerGzip)
        );
        assert_eq!(
            MediaType::DockerConfig.relabelled(Vendor::Oci),
            Some(MediaType::OciConfig)
        );
        assert_eq!(
            MediaType::OciLayerZstd.relabelled(Vendor::Oci),
            Some(MediaType::OciLayerZstd)
        );
    }
}
