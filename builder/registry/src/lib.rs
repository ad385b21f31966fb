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
//! The serving half (`kiln registry serve`) will be the module `server` of this crate; it is not there yet.

pub mod client;
pub mod credential;
pub mod digest;
pub mod error;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod settings;

pub use client::Client;
pub use client::blob::{BlobReader, BlockingBlobReader};
pub use client::pull::Image;
pub use client::push::{BlobSource, Mount, Progress, Pushed};
pub use client::web::Download;
pub use credential::Keychain;
pub use digest::{Algorithm, Digest};
pub use error::Error;
pub use manifest::{Descriptor, ImageManifest, Index, Manifest, ManifestBody};
pub use media_type::{Compression, MediaType, Vendor};
pub use platform::Platform;
pub use reference::Reference;
pub use settings::{HostSettings, Settings};
