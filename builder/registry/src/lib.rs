//! Speaks the OCI distribution protocol to registries: names, digests, manifests, credentials, pulls and pushes.
//!
//! It does not build images, unpack layers or keep a store: blobs go to and come from files, bytes and streams
//! that the caller names. It never reads the environment or `$HOME`; the caller hands over [`Settings`] and a
//! [`Keychain`] whose contents it has read itself.
//!
//! | question | place |
//! |---|---|
//! | what does a name such as `golang:alpine` mean | [`mod@reference`] |
//! | which manifest of an index is ours | [`platform`] |
//! | which credentials does a host get | [`credential`] |
//! | http or https, which CA, which mirror, which host is really called | [`settings`] |
//! | login, retries, redirects | `client/{auth,retry,transport}.rs` |
//! | reading and writing | `client/{pull,blob,push,upload}.rs` |
//!
//! The serving half is the module `server`, behind the feature of the same name, so that programs which only push and
//! pull do not carry it.

pub mod client;
pub mod credential;
pub mod digest;
pub mod error;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
#[cfg(feature = "server")]
pub mod server;
pub mod settings;

pub use client::Client;
pub use client::blob::{BlobReader, BlockingBlobReader};
pub use client::local::LocalBlob;
pub use client::pull::Image;
pub use client::push::{BlobSource, Mount, Progress, Pushed};
pub use client::service::{ServiceAnswer, ServiceRequest};
pub use client::web::Download;
pub use credential::Keychain;
pub use digest::{Algorithm, Digest};
pub use error::Error;
pub use manifest::{Descriptor, ImageManifest, Index, Manifest, ManifestBody};
pub use media_type::{Compression, MediaType, Vendor};
pub use platform::Platform;
pub use reference::Reference;
pub use settings::{HostSettings, Settings};
