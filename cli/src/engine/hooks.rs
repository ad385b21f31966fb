//! Commands of the configuration that run on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kiln_builder::hooks::RunHook;
use kiln_schemas::event::{Event, Events};
use kiln_schemas::model::HostHook;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// Runs hooks in a module's folder and shows their output line by line.
pub struct HostHooks {
    /// Where a hook without a `dir` runs.
    pub dir: PathBuf,
    /// Gets the output.
    pub events: Events,
    /// Added to the environment of every hook.
    pub vars: BTreeMap<String, String>,
}

impl RunHook for HostHooks {
    async fn run(&self, hook: &HostHook, env: &BTreeMap<String, String>) -> Result<(), String> {
        let mut child = self
            .command(hook, env)?
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!(
                    "cannot start {}: {error}",
                    hook.command.first().map_or("", String::as_str)
                )
            })?;
        let lines = (
            show(child.stdout.take(), &self.events),
            show(child.stderr.take(), &self.events),
        );
        tokio::join!(lines.0, lines.1);
        match child.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl HostHooks {
    /// Runs a hook that gets `input` on stdin; its stdout is the result.
    pub async fn filter(&self, hook: &HostHook, input: &str) -> Result<String, String> {
        let command = self.command(hook, &BTreeMap::new())?;
        let mut command = command;
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdin = child.stdin.take();
        let errors = child.stderr.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A hook may end without reading everything; its status decides.
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        let ((), (), output) =
            tokio::join!(write, show(errors, &self.events), child.wait_with_output());
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(output.status.to_string());
        }
        String::from_utf8(output.stdout).map_err(|_| "its output is not UTF-8".to_owned())
    }

    fn command(&self, hook: &HostHook, env: &BTreeMap<String, String>) -> Result<Command, String> {
        let Some((program, args)) = hook.command.split_first() else {
            return Err("the command is empty".into());
        };
        let dir: &Path = hook.dir.as_deref().unwrap_or(&self.dir);
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(dir)
            .envs(&self.vars)
            .envs(env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A cancelled iteration must not leave its hooks behind.
            .kill_on_drop(true);
        Ok(command)
    }
}

/// Whether every output of a hook is there and none is older than an input, as `make` decides.
/// A hook that names no outputs never is.
pub fn is_up_to_date(hook: &HostHook) -> bool {
    let outputs = hook.outputs.iter().map(|path| modified(path));
    let Some(oldest) = outputs
        .collect::<Option<Vec<_>>>()
        .and_then(|all| all.into_iter().min())
    else {
        return false;
    };
    let newest = hook
        .inputs
        .iter()
        .filter_map(|path| newest_below(path))
        .max();
    newest.is_none_or(|newest| newest <= oldest)
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// The newest time of a file, or of all files below a folder.
fn newest_below(path: &Path) -> Option<std::time::SystemTime> {
    if !path.is_dir() {
        return modified(path);
    }
    let entries = std::fs::read_dir(path).ok()?.flatten();
    entries
        .filter_map(|entry| newest_below(&entry.path()))
        .max()
}

/// The folders in which a hook's inputs are.
pub fn input_folders(hook: &HostHook) -> Vec<PathBuf> {
    fn add(path: &Path, folders: &mut Vec<PathBuf>) {
        folders.push(path.to_owned());
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().is_dir()) {
            add(&entry.path(), folders);
        }
    }
    let mut folders = Vec::new();
    for input in &hook.inputs {
        if input.is_dir() {
            add(input, &mut folders);
        } else {
            folders.extend(input.parent().map(Path::to_owned));
        }
    }
    folders
}

async fn show(stream: Option<impl AsyncRead + Unpin>, events: &Events) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(message)) = lines.next_line().await {
        events.emit(Event::Note { message });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn hook(script: &str) -> HostHook {
        HostHook {
            command: vec!["sh".into(), "-c".into(), script.into()],
            os: Vec::new(),
            dir: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn hooks(seen: &Arc<Mutex<Vec<String>>>) -> HostHooks {
        let seen = Arc::clone(seen);
        HostHooks {
            dir: std::env::temp_dir(),
            events: Events::new(move |event| {
                if let Event::Note { message } = event {
                    seen.lock().unwrap().push(message);
                }
            }),
            vars: BTreeMap::from([("SKAFFOLD_WORK_DIR".into(), "/p".into())]),
        }
    }

    #[tokio::test]
    async fn a_hooks_output_is_shown_and_its_status_reported() {
        let seen = Arc::default();
        let hooks = hooks(&seen);
        let env = BTreeMap::from([("SKAFFOLD_IMAGE".into(), "app:1".into())]);
        hooks
            .run(&hook("echo $SKAFFOLD_IMAGE $SKAFFOLD_WORK_DIR"), &env)
            .await
            .unwrap();
        assert_eq!(*seen.lock().unwrap(), ["app:1 /p"]);
        let error = hooks.run(&hook("exit 3"), &env).await.unwrap_err();
        assert_eq!(error, "exit status: 3");
    }

    #[tokio::test]
    async fn a_render_hook_rewrites_what_it_reads() {
        let hooks = hooks(&Arc::default());
        let text = hooks
            .filter(&hook("sed s/a/b/"), "kind: a\n")
            .await
            .unwrap();
        assert_eq!(text, "kind: b\n");
    }
}
