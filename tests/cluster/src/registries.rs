//! Two registries: a plain one that plays every public registry, and one with TLS
//! and tokens that the tests push to as to a private one.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::error::{AtPath, Error};
use crate::layout::{Layout, PLAIN_REGISTRY_PORT, TLS_REGISTRY_HOST};

const BACKEND: &str = "127.0.0.1:5002";
const ISSUER: &str = "kiln-test-tokens";

/// Writes the configuration of both.
pub(crate) fn write_config(layout: &Layout) -> Result<(), Error> {
    let plain = configuration(
        &layout.data("registry-plain"),
        &format!("0.0.0.0:{PLAIN_REGISTRY_PORT}"),
        "127.0.0.1:5001",
    );
    let mut private = configuration(&layout.data("registry-tls"), BACKEND, "127.0.0.1:5003");
    private["auth"] = json!({"token": {
        // Not used, as the realm follows the host that the client asked; but required.
        "realm": format!("https://{TLS_REGISTRY_HOST}/token"),
        "autoredirect": true,
        "autoredirectpath": "/token",
        "service": TLS_REGISTRY_HOST,
        "issuer": ISSUER,
        "rootcertbundle": layout.ca_certificate(),
    }});
    for (name, config) in [("registry-plain", plain), ("registry-tls", private)] {
        let path = layout.config(&format!("{name}.json"));
        fs::write(&path, format!("{config:#}\n")).at("write", &path)?;
    }
    Ok(())
}

fn configuration(storage: &Path, address: &str, debug: &str) -> serde_json::Value {
    json!({
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": false}},
        "storage": {
            "filesystem": {"rootdirectory": storage},
            "delete": {"enabled": true},
            "maintenance": {"uploadpurging": {"enabled": false}},
        },
        "http": {"addr": address, "relativeurls": true, "debug": {"addr": debug}},
    })
}

/// Flags of a registry; `name` is that of its configuration file.
pub(crate) fn serve(layout: &Layout, name: &str) -> Vec<String> {
    let config = layout.config(&format!("{name}.json"));
    vec!["serve".into(), config.display().to_string()]
}

/// Flags of the TLS front with its token server.
pub(crate) fn front(layout: &Layout) -> Vec<String> {
    vec![
        "-listen=0.0.0.0:5443".into(),
        format!("-backend=http://{BACKEND}"),
        format!("-cert={}", layout.pki("registry.crt").display()),
        format!("-key={}", layout.pki("registry.key").display()),
        format!("-users={}", layout.pki("registry-users").display()),
        format!("-issuer={ISSUER}"),
    ]
}
