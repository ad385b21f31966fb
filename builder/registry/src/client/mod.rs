//! The client: one value for all registries, cheap to clone, with tokens and connections shared.

pub mod blob;
pub mod pull;
pub mod push;

use std::sync::Arc;

use crate::credential::Keychain;
use crate::settings::{Settings, SettingsError};

/// Speaks to registries.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    keychain: Keychain,
}

impl Client {
    /// A client with these settings and credentials. Does no I/O.
    ///
    /// # Errors
    /// [`SettingsError`] when a certificate or a proxy address of `settings` cannot be used.
    pub fn new(settings: Settings, keychain: Keychain) -> Result<Self, SettingsError> {
        Ok(Self { inner: Arc::new(Inner { settings, keychain }) })
    }
}
