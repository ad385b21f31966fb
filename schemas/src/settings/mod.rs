//! Settings of a user, per kube-context and for all: `kiln/config.yaml` in
//! the XDG config folder, and skaffold's `~/.skaffold/config` as a fallback.
//! Texts in, values and texts out; where the files are is the caller's
//! knowledge.
//!
//! ```yaml
//! global:
//!   default-repo: registry.example/team
//! contexts:
//!   kind-dev:
//!     default-repo: localhost:5000
//!     multi-level-repo: true
//!     insecure-registries: [localhost:5000]
//!     registries:
//!       europe-north1-docker.pkg.dev: {host: "10.0.0.1:5000", insecure: true}
//! ```

mod edit;

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::report::Report;
use crate::yaml;

pub use edit::{EditError, set, unset};

/// Names of the settings that [`set`] and [`unset`] change.
pub const KEYS: [&str; 3] = ["default-repo", "multi-level-repo", "insecure-registries"];

/// Which settings are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those for every kube-context.
    Global,
    /// Those of one kube-context.
    Context(String),
}

/// Settings; what is absent is not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The repository that image names are put into.
    pub default_repo: Option<String>,
    /// Whether that repository may have repositories below it.
    pub multi_level_repo: Option<bool>,
    /// Hosts that are spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// How hosts are reached, by the name that images carry.
    pub registries: BTreeMap<String, Host>,
}

/// How a registry is reached. Names in manifests stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Host and port to connect to instead.
    pub host: Option<String>,
    /// Speak HTTP to it.
    pub insecure: bool,
    /// Do not check its certificate.
    pub skip_tls_verify: bool,
    /// File with a CA certificate for it, as written; `~/` is the home folder.
    pub certificate: Option<String>,
}

/// A file of settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsFile {
    /// For every kube-context.
    pub global: Settings,
    /// By kube-context.
    pub contexts: BTreeMap<String, Settings>,
}

impl SettingsFile {
    /// Reads Kiln's file; an empty one sets nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it, in file order.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let documents = yaml::parse(text, file).map_err(|error| vec![error])?;
        let report = Report::default();
        let mut settings = Self::default();
        if let Some(document) = documents.first() {
            let fields = Fields::of(document, "", &report);
            if let Some(global) = fields.section("global") {
                settings.global = read(&global);
            }
            for (name, section) in fields.named_sections("contexts") {
                settings.contexts.insert(name, read(&section));
            }
        }
        report.finish().map(|_| settings)
    }

    /// Reads what skaffold's own file says about registries; the rest of it
    /// (surveys, metrics, debugging) means nothing here.
    ///
    /// # Errors
    /// Everything that is wrong with it, in file order.
    pub fn parse_skaffold(text: &str, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let documents = yaml::parse(text, file).map_err(|error| vec![error])?;
        let report = Report::default();
        let mut settings = Self::default();
        if let Some(document) = documents.first() {
            let mut fields = Fields::of(document, "", &report);
            fields.allow_more();
            if let Some(mut global) = fields.section("global") {
                global.allow_more();
                settings.global = read(&global);
            }
            for mut entry in fields.sections("kubeContexts") {
                entry.allow_more();
                if let Some(name) = entry.string("kube-context") {
                    settings.contexts.insert(name, read(&entry));
                }
            }
        }
        report.finish().map(|_| settings)
    }

    /// What holds for a kube-context: its own settings over the global ones;
    /// lists of insecure registries are put together.
    pub fn effective(&self, kube_context: Option<&str>) -> Settings {
        let own = kube_context.and_then(|name| self.contexts.get(name));
        own.cloned().unwrap_or_default().over(&self.global)
    }
}

impl Settings {
    /// These settings, and those of `fallback` where these say nothing.
    #[must_use]
    pub fn over(mut self, fallback: &Self) -> Self {
        self.default_repo = self.default_repo.or_else(|| fallback.default_repo.clone());
        self.multi_level_repo = self.multi_level_repo.or(fallback.multi_level_repo);
        for host in &fallback.insecure_registries {
            if !self.insecure_registries.contains(host) {
                self.insecure_registries.push(host.clone());
            }
        }
        for (name, host) in &fallback.registries {
            self.registries
                .entry(name.clone())
                .or_insert_with(|| host.clone());
        }
        self
    }

    /// Name and value of everything that is set, for `config list`.
    pub fn list(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        rows.extend(
            self.default_repo
                .clone()
                .map(|repo| ("default-repo".to_owned(), repo)),
        );
        rows.extend(
            self.multi_level_repo
                .map(|on| ("multi-level-repo".to_owned(), on.to_string())),
        );
        if !self.insecure_registries.is_empty() {
            rows.push((
                "insecure-registries".to_owned(),
                self.insecure_registries.join(","),
            ));
        }
        for (name, host) in &self.registries {
            let on = |set: bool| set.then(|| "true".to_owned());
            for (field, value) in [
                ("host", host.host.clone()),
                ("insecure", on(host.insecure)),
                ("skip-tls-verify", on(host.skip_tls_verify)),
                ("certificate", host.certificate.clone()),
            ] {
                rows.extend(value.map(|value| (format!("registries.{name}.{field}"), value)));
            }
        }
        rows
    }
}

fn read(fields: &Fields<'_>) -> Settings {
    Settings {
        default_repo: fields.string("default-repo"),
        multi_level_repo: fields.bool("multi-level-repo"),
        insecure_registries: fields.strings("insecure-registries"),
        registries: fields
            .named_sections("registries")
            .map(|(name, section)| {
                let host = Host {
                    host: section.string("host"),
                    insecure: section.flag("insecure"),
                    skip_tls_verify: section.flag("skip-tls-verify"),
                    certificate: section.string("certificate"),
                };
                (name, host)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
