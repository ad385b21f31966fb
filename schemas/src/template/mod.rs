//! Go templates in the configuration: text/template with the functions of
//! sprig that people use, and `cmd` where the caller lets programs run.

mod functions;
mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::diagnostic::did_you_mean;
use crate::model::Template;

/// Runs a program with arguments and returns what it printed, or why not.
pub type Runner = Arc<dyn Fn(&str, &[String]) -> Result<String, String> + Send + Sync>;

/// What a template may use.
#[derive(Clone, Default)]
pub struct Vars {
    values: BTreeMap<String, String>,
    runner: Option<Runner>,
    missing: MissingKey,
}

/// What a variable that is not there becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// `<no value>`, as in Go.
    #[default]
    NoValue,
    /// An error (Go's `missingkey=error`).
    Error,
}

impl Vars {
    /// The environment's variables.
    pub fn new(environment: &BTreeMap<String, String>) -> Self {
        Self {
            values: environment.clone(),
            ..Self::default()
        }
    }

    /// Adds a variable, over one of the same name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets `cmd` run programs through `runner`.
    #[must_use]
    pub fn runner(mut self, runner: Runner) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Says what a missing variable becomes.
    #[must_use]
    pub fn missing(mut self, missing: MissingKey) -> Self {
        self.missing = missing;
        self
    }
}

impl fmt::Debug for Vars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_struct("Vars")
            .field("names", &self.values.keys())
            .finish_non_exhaustive()
    }
}

/// A template that cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Its syntax is wrong.
    #[error("the template `{template}` is not valid")]
    Syntax {
        /// The template.
        template: String,
        /// What is wrong.
        source: gotmpl::TemplateError,
    },
    /// It calls a function that there is not.
    #[error("the template `{template}` calls `{function}`, which is not a function")]
    UnknownFunction {
        /// The template.
        template: String,
        /// What it calls.
        function: String,
        /// What it may have meant.
        meant: Option<String>,
    },
    /// A variable is missing and that counts as an error.
    #[error("the template `{template}` uses `{name}`, which is not set")]
    Missing {
        /// The template.
        template: String,
        /// The variable.
        name: String,
    },
    /// Rendering failed.
    #[error("the template `{template}` cannot be rendered")]
    Render {
        /// The template.
        template: String,
        /// Why.
        source: gotmpl::TemplateError,
    },
}

/// Renders a template.
pub fn render(template: &Template, vars: &Vars) -> Result<String, TemplateError> {
    let text = &template.0;
    if !text.contains("{{") {
        return Ok(text.clone());
    }
    let values = vars.values.iter();
    let map = values
        .map(|(name, value)| {
            (
                Arc::from(name.as_str()),
                gotmpl::Value::String(value.as_str().into()),
            )
        })
        .collect();
    let failed = |error| match error {
        gotmpl::TemplateError::MissingKey { key } => TemplateError::Missing {
            template: text.clone(),
            name: key,
        },
        source => TemplateError::Render {
            template: text.clone(),
            source,
        },
    };
    parse(template, vars)?
        .execute_to_string(&gotmpl::Value::Map(Arc::new(map)))
        .map_err(failed)
}

/// Checks a template's syntax and the names of its functions.
pub fn check(template: &Template) -> Result<(), TemplateError> {
    if !template.0.contains("{{") {
        return Ok(());
    }
    let called = names::called(&template.0).map_err(|source| TemplateError::Syntax {
        template: template.0.clone(),
        source,
    })?;
    let table = functions::table(BTreeMap::new(), None);
    let known = || table.keys().map(String::as_str).chain(functions::BUILT_IN);
    match called
        .into_iter()
        .find(|name| !known().any(|known| known == name))
    {
        Some(function) => {
            let meant = did_you_mean(&function, known()).map(str::to_owned);
            Err(TemplateError::UnknownFunction {
                template: template.0.clone(),
                function,
                meant,
            })
        }
        None => Ok(()),
    }
}

fn parse(template: &Template, vars: &Vars) -> Result<gotmpl::Template, TemplateError> {
    let missing = match vars.missing {
        MissingKey::NoValue => gotmpl::MissingKey::Invalid,
        MissingKey::Error => gotmpl::MissingKey::Error,
    };
    gotmpl::Template::new("")
        .missing_key(missing)
        .funcs(functions::table(vars.values.clone(), vars.runner.clone()))
        .parse(&template.0)
        .map_err(|source| TemplateError::Syntax {
            template: template.0.clone(),
            source,
        })
}

#[cfg(test)]
mod tests;
