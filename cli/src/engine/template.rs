//! Templates of the configuration, filled in with this process's environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_builder::order::RenderTemplate;
use kiln_schemas::model::Template;
use kiln_schemas::template::{MissingKey, Vars, render};

use super::Engine;

/// Fills in templates for builds, where `<no value>` is what Go leaves.
pub struct Templates {
    vars: Vars,
}

impl Templates {
    /// Over the environment; `cmd` runs programs of this machine.
    pub fn new(environment: &BTreeMap<String, String>) -> Self {
        Self {
            vars: Vars::new(environment).runner(Arc::new(run)),
        }
    }
}

impl RenderTemplate for Templates {
    fn render(
        &self,
        template: &Template,
        vars: &BTreeMap<String, String>,
    ) -> Result<String, String> {
        let mut all = self.vars.clone();
        for (name, value) in vars {
            all = all.with(name, value);
        }
        render(template, &all).map_err(|error| chain(&error))
    }
}

impl Engine {
    /// Fills in a template of the manifests, the deploy or a forward. A
    /// variable that is not set is an error: `<no value>` is no path or name.
    pub(super) fn expand(&self, template: &Template) -> Result<String, String> {
        let vars = Vars::new(&self.env.vars)
            .runner(Arc::new(run))
            .missing(MissingKey::Error);
        render(template, &vars).map_err(|error| chain(&error))
    }

    /// The same for builds.
    pub(super) fn templates(&self) -> Templates {
        Templates::new(&self.env.vars)
    }
}

/// What `cmd "program" args…` of a template does.
fn run(program: &str, args: &[String]) -> Result<String, String> {
    let output = std::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned())
    } else {
        Err(format!("{program}: {}", output.status))
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
