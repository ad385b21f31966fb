//! Commands on the developer's machine around the build of one image: what
//! they are told, and in which order they run. Running a process is the
//! caller's part, through [`RunHook`].

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;

use kiln_schemas::model::{HookPair, HostHook};

use crate::order::split_tag;

/// Runs one command on this host with these variables added to its
/// environment. The error is the reason in one line, exit status included.
pub trait RunHook {
    /// Runs `hook` to its end.
    fn run(
        &self,
        hook: &HostHook,
        env: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), String>>;
}

/// A hook failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hook `{}` {when} the build of {image} failed: {reason}", command.join(" "))]
pub struct HookError {
    /// The artifact.
    pub image: String,
    /// `before` or `after`.
    pub when: &'static str,
    /// The command.
    pub command: Vec<String>,
    /// What the runner said.
    pub reason: String,
}

/// The variables of a build hook (skaffold's documentation, "Lifecycle hooks";
/// skaffold.md 5). `SKAFFOLD_IMAGE_REPO` is the whole repository here, unlike
/// the template variable `IMAGE_REPO`.
pub fn build_env(reference: &str, context: &Path) -> BTreeMap<String, String> {
    let (repository, tag) = split_tag(reference);
    BTreeMap::from([
        ("SKAFFOLD_IMAGE".into(), reference.into()),
        ("SKAFFOLD_PUSH_IMAGE".into(), "true".into()),
        ("SKAFFOLD_IMAGE_REPO".into(), repository.into()),
        ("SKAFFOLD_IMAGE_TAG".into(), tag.unwrap_or("latest").into()),
        (
            "SKAFFOLD_BUILD_CONTEXT".into(),
            context.display().to_string(),
        ),
    ])
}

/// The half of a [`HookPair`] to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the build.
    Before,
    /// After its success.
    After,
}

/// Runs the hooks of one half that are meant for `os` (Go's name), in order,
/// up to the first that fails.
pub async fn run_hooks(
    hooks: (&HookPair, When),
    image: &str,
    os: &str,
    env: &BTreeMap<String, String>,
    runner: &impl RunHook,
) -> Result<(), HookError> {
    let (commands, when) = match hooks {
        (pair, When::Before) => (&pair.before, "before"),
        (pair, When::After) => (&pair.after, "after"),
    };
    for hook in commands {
        if !hook.os.is_empty() && !hook.os.iter().any(|wanted| wanted == os) {
            continue;
        }
        runner.run(hook, env).await.map_err(|reason| HookError {
            image: image.to_owned(),
            when,
            command: hook.command.clone(),
            reason,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Recorder(RefCell<Vec<String>>);

    impl RunHook for Recorder {
        async fn run(&self, hook: &HostHook, env: &BTreeMap<String, String>) -> Result<(), String> {
            let line = format!("{} {}", hook.command.join(" "), env["SKAFFOLD_IMAGE_TAG"]);
            self.0.borrow_mut().push(line);
            if hook.command[0] == "false" {
                Err("exit status 1".into())
            } else {
                Ok(())
            }
        }
    }

    fn hook(command: &[&str], os: &[&str]) -> HostHook {
        HostHook {
            command: command.iter().map(|s| (*s).to_owned()).collect(),
            os: os.iter().map(|s| (*s).to_owned()).collect(),
            dir: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    #[test]
    fn a_hook_is_told_what_is_built() {
        let env = build_env("gcr.io/team/app:v1", Path::new("/src/app"));
        assert_eq!(env["SKAFFOLD_IMAGE"], "gcr.io/team/app:v1");
        assert_eq!(env["SKAFFOLD_PUSH_IMAGE"], "true");
        assert_eq!(env["SKAFFOLD_IMAGE_REPO"], "gcr.io/team/app");
        assert_eq!(env["SKAFFOLD_IMAGE_TAG"], "v1");
        assert_eq!(env["SKAFFOLD_BUILD_CONTEXT"], "/src/app");
    }

    #[tokio::test]
    async fn hooks_of_other_systems_are_left_out_and_a_failure_stops_the_rest() {
        let pair = HookPair {
            before: vec![
                hook(&["one"], &[]),
                hook(&["mac"], &["darwin"]),
                hook(&["false"], &["linux", "darwin"]),
                hook(&["never"], &[]),
            ],
            after: Vec::new(),
        };
        let runner = Recorder(RefCell::default());
        let env = build_env("app:v1", Path::new("/"));
        let error = run_hooks((&pair, When::Before), "app", "linux", &env, &runner)
            .await
            .unwrap_err();
        assert_eq!(*runner.0.borrow(), ["one v1", "false v1"]);
        assert_eq!(
            error.to_string(),
            "hook `false` before the build of app failed: exit status 1"
        );
    }
}
