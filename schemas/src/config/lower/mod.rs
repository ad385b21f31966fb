//! A checked document becomes a module of the model.

mod build;
mod deploy;
mod image;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::image::{HookCommand, Hooks};
use crate::config::{Document, Texts};
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::fields::template_finding;
use crate::model::{HookPair, HostHook, Module, Template};
use crate::report::Report;
use crate::yaml::{Node, Span};
use crate::{duration, template};

/// One document on its way into the model.
pub(super) struct Lowering<'a> {
    /// The tree, for the places of findings.
    pub(super) node: &'a Node,
    /// The folder that relative paths are below, absolute.
    pub(super) folder: &'a Path,
    /// For `~` in paths.
    pub(super) environment: &'a Environment,
    /// Where findings go.
    pub(super) report: &'a Report,
}

impl Lowering<'_> {
    /// The module of a document; `name` is the one it has.
    pub(super) fn module(&self, document: &Document, name: String) -> Module {
        Module {
            name,
            dir: self.folder.to_owned(),
            build: self.build(document),
            manifests: self.manifests(&document.deploy),
            deploy: self.deploy(&document.deploy),
            forward: document
                .forward
                .iter()
                .enumerate()
                .map(|(index, entry)| self.forward(entry, index))
                .collect(),
            resource_selector: deploy::resource_selector(&document.deploy.kinds),
        }
    }

    /// The place of a node, or of the closest one above it.
    pub(super) fn place(&self, pointer: &str) -> &Span {
        let mut pointer = pointer;
        loop {
            if let Some(node) = self.node.pointer(pointer) {
                return &node.span;
            }
            pointer = pointer.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    pub(super) fn error(&self, pointer: &str, message: impl Into<String>, help: Option<String>) {
        let mut finding = Diagnostic::at(self.place(pointer), message);
        finding.help = help;
        self.report.error(finding);
    }

    fn template(&self, text: &str, pointer: &str) -> Template {
        let template = Template(text.to_owned());
        if let Err(error) = template::check(&template) {
            self.report
                .error(template_finding(&error, self.place(pointer)));
        }
        template
    }

    fn texts(&self, texts: &Texts, at: &str) -> Vec<Template> {
        let texts = texts.0.iter().enumerate();
        texts
            .map(|(index, text)| self.template(text, &format!("{at}/{index}")))
            .collect()
    }

    fn templates(&self, map: &BTreeMap<String, String>, at: &str) -> BTreeMap<String, Template> {
        let entries = map.iter();
        entries
            .map(|(key, text)| (key.clone(), self.template(text, &below(at, key))))
            .collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.environment.resolve(self.folder, path)
    }

    fn duration(&self, text: Option<&str>, pointer: &str, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        duration::parse(text).unwrap_or_else(|| {
            let help = "write a number with a unit, for example 90s, 20m or 1h30m";
            self.error(
                pointer,
                format!("`{text}` is not a duration"),
                Some(help.to_owned()),
            );
            default
        })
    }

    fn hooks(&self, hooks: &Hooks, at: &str) -> HookPair {
        let read = |commands: &[HookCommand], when: &str| {
            let commands = commands.iter().enumerate();
            commands
                .map(|(index, hook)| self.hook(hook, &format!("{at}/{when}/{index}")))
                .collect()
        };
        HookPair {
            before: read(&hooks.before, "before"),
            after: read(&hooks.after, "after"),
        }
    }

    fn hook(&self, hook: &HookCommand, at: &str) -> HostHook {
        if hook.command.is_empty() {
            self.error(at, "`command` is empty", None);
        }
        if hook.outputs.is_empty() != hook.inputs.is_empty() {
            let help = "name both: a hook is skipped when its outputs are newer than its inputs";
            let message = "`inputs` and `outputs` belong together";
            self.error(at, message, Some(help.to_owned()));
        }
        HostHook {
            command: hook.command.clone(),
            os: hook.os.clone(),
            dir: hook.dir.as_deref().map(|dir| self.path(dir)),
            inputs: hook.inputs.iter().map(|path| self.path(path)).collect(),
            outputs: hook.outputs.iter().map(|path| self.path(path)).collect(),
        }
    }
}

/// A pointer to a key below another place.
fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}
