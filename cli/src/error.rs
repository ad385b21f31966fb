//! Every error's kind, hint and exit code, in one place. The codes are those
//! of [`Kind::code`]; 0 means that everything that was asked for happened,
//! also for `dev` ended by Ctrl-C.

use std::process::ExitCode;

use kiln_schemas::Diagnostic;
use kiln_schemas::event::{Event, Events, Failure};

/// What kind of trouble it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something on this machine.
    General,
    /// The command line.
    Usage,
    /// The configuration.
    Config,
    /// A build.
    Build,
    /// A deploy.
    Deploy,
    /// The cluster.
    Cluster,
    /// The user stopped it.
    Interrupted,
    /// The command of `exec` ended with this code.
    Command(u8),
}

impl Kind {
    /// All kinds with a code of their own, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::General,
        Self::Usage,
        Self::Config,
        Self::Build,
        Self::Deploy,
        Self::Cluster,
        Self::Interrupted,
    ];

    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::General => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Build => 4,
            Self::Deploy => 5,
            Self::Cluster => 6,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }

    /// What the exit code says, for the reference.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::General => "something failed that has no code of its own",
            Self::Usage => "the command line makes no sense",
            Self::Config => "the configuration is wrong",
            Self::Build => "an image was not built",
            Self::Deploy => "the deploy failed or did not become ready",
            Self::Cluster => "the cluster cannot be reached or refuses",
            Self::Interrupted => "interrupted",
            Self::Command(_) => "the code of the command that ran",
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// What kind of trouble it is.
    pub kind: Kind,
    /// What to show. Empty when events have shown it already.
    pub failures: Vec<Failure>,
}

impl CommandError {
    /// An error with a message of its own.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            failures: vec![Failure::new(message)],
        }
    }

    /// An error with its chain of causes.
    pub fn from_error(kind: Kind, error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            kind,
            failures: vec![Failure::from_error(error)],
        }
    }

    /// An error that events have shown already.
    pub fn shown(kind: Kind) -> Self {
        Self {
            kind,
            failures: Vec::new(),
        }
    }

    /// All findings of a reader, each with its line and what to do.
    pub fn config(diagnostics: &[Diagnostic]) -> Self {
        let failures = diagnostics
            .iter()
            .map(|diagnostic| {
                let mut failure = Failure::new(diagnostic.to_string());
                failure.log = excerpt(diagnostic);
                failure.hints = diagnostic.help.iter().cloned().collect();
                failure
            })
            .collect();
        Self {
            kind: Kind::Config,
            failures,
        }
    }

    /// Adds a hint to the first failure.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(failure) = self.failures.first_mut() {
            failure.hints.push(hint.into());
        }
        self
    }

    /// Shows what has not been shown yet.
    pub fn show(&self, events: &Events) {
        for failure in &self.failures {
            events.emit(Event::Failed {
                failure: failure.clone(),
            });
        }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }
}

/// The source line and a mark under what is meant.
fn excerpt(diagnostic: &Diagnostic) -> Vec<String> {
    let Some(line) = &diagnostic.snippet else {
        return Vec::new();
    };
    let before = diagnostic.column.saturating_sub(1);
    // Tabs keep their width, so that the mark stands where the eye looks.
    let indent: String = line
        .chars()
        .take(before)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    vec![
        line.clone(),
        format!("{indent}{}", "^".repeat(diagnostic.length.max(1))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_line_with_a_mark_below() {
        let diagnostic = Diagnostic {
            file: "skaffold.yaml".into(),
            line: 3,
            column: 3,
            length: 5,
            message: "unknown field `imgae`".into(),
            help: Some("did you mean `image`?".into()),
            snippet: Some("  imgae: app".into()),
        };
        let error = CommandError::config(&[diagnostic]);
        let failure = &error.failures[0];
        assert_eq!(failure.message, "skaffold.yaml:3:3: unknown field `imgae`");
        assert_eq!(failure.log, ["  imgae: app", "  ^^^^^"]);
        assert_eq!(failure.hints, ["did you mean `image`?"]);
    }
}
