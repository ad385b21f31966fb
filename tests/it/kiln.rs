//! Runs `kiln` as a user would, in a hermetic environment: its own HOME, its
//! own settings, the cluster's network.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use kiln_schemas::event::Event;
use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};
use tempfile::TempDir;

use crate::structure::root;

/// How long a single step may take before a test gives up. Not a claim about
/// speed: only what keeps a hung test from hanging the run.
pub const PATIENCE: Duration = Duration::from_secs(400);

/// A copy of a project, a home folder, and the cluster.
pub struct Project {
    cluster: Cluster,
    home: TempDir,
    dir: PathBuf,
}

impl Project {
    /// A copy of `examples/NAME`, with user-level settings that send every
    /// listed registry host to the cluster's plain registry.
    pub fn example(cluster: &Cluster, name: &str, hosts: &[&str]) -> Self {
        let project = Self::empty(cluster, hosts);
        copy(&root().join("examples").join(name), &project.dir);
        project
    }

    /// An empty project folder.
    pub fn empty(cluster: &Cluster, hosts: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let dir = home.path().join("project");
        fs::create_dir_all(&dir).expect("a project folder");
        let config = home.path().join(".config/kiln");
        fs::create_dir_all(&config).expect("a settings folder");
        let mut settings =
            format!("global:\n  insecure-registries: [\"{PLAIN_REGISTRY}\"]\n  registries:\n");
        // Base images come from the same place.
        for host in hosts
            .iter()
            .chain(&["docker.io", "gcr.io", "mirror.gcr.io"])
        {
            settings.push_str(&format!(
                "    {host}: {{host: \"{PLAIN_REGISTRY}\", insecure: true}}\n"
            ));
        }
        fs::write(config.join("config.yaml"), settings).expect("settings are written");
        Self {
            cluster: cluster.clone(),
            home,
            dir,
        }
    }

    /// The project's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders are made");
        fs::write(path, text).expect("a file is written");
    }

    /// Replaces text in a file, as an editor's save.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let file = self.dir.join(path);
        let text = fs::read_to_string(&file).expect("the file is there");
        assert!(text.contains(from), "{path} does not contain {from}");
        fs::write(file, text.replace(from, to)).expect("a file is written");
    }

    /// `kiln` with these arguments, ready to run in the project's folder.
    pub fn kiln(&self, args: &[&str]) -> Command {
        let mut command = self.in_network(binary());
        command.args(args);
        command
    }

    /// Any program in the cluster's network and the project's folder, as its developer.
    pub fn in_network(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.cluster.command(program);
        command
            .current_dir(&self.dir)
            .env("HOME", self.home.path())
            .env("USER", "developer")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("DOCKER_CONFIG")
            .stdin(Stdio::null());
        command
    }

    /// Runs `kiln` to its end; fails the test unless it succeeds.
    pub fn run(&self, args: &[&str]) -> Output {
        let output = self.kiln(args).output().expect("kiln runs");
        assert!(
            output.status.success(),
            "kiln {args:?} failed:\n{}",
            said(&output)
        );
        output
    }

    /// Runs `kiln` to its end and returns what it said; fails the test if it
    /// succeeds.
    pub fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.kiln(args).output().expect("kiln runs");
        assert!(
            !output.status.success(),
            "kiln {args:?} succeeded:\n{}",
            said(&output)
        );
        (output.status.code().unwrap_or(-1), said(&output))
    }

    /// Runs `kiln --output=json` and returns its events.
    pub fn events(&self, args: &[&str]) -> Vec<Event> {
        let mut all = vec!["--output=json"];
        all.extend(args);
        let output = self.run(&all);
        let text = String::from_utf8(output.stdout).expect("events are UTF-8");
        text.lines().map(event).collect()
    }

    /// Starts `kiln dev --output=json` and follows its events.
    pub fn dev(&self, args: &[&str]) -> Dev {
        let mut all = vec!["--output=json", "dev"];
        all.extend(args);
        Dev::start(self.kiln(&all))
    }

    /// `kubectl`-like reading through the API: the body of an HTTP request to
    /// a path of a service, from inside the cluster's network.
    pub fn get(&self, url: &str) -> Result<String, String> {
        let mut command = self.cluster.command("curl");
        let output = command
            .args(["-sS", "--fail", "--max-time", "10", url])
            .output()
            .expect("curl runs");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

/// The development binary that `make test` built, beside this test's own.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.parent().and_then(Path::parent).expect("target/debug");
    let path = folder.join("kiln");
    assert!(
        path.exists(),
        "{} is missing: cargo build -p kiln",
        path.display()
    );
    path
}

/// Everything that a command said.
pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn event(line: &str) -> Event {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("not an event ({error}): {line}"))
}

/// Copies a folder with everything below it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("the example is there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}

/// A running `kiln dev`.
pub struct Dev {
    child: Child,
    events: Receiver<Event>,
    seen: Vec<Event>,
}

impl Dev {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("kiln starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(event(&line)).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            events,
            seen: Vec::new(),
        }
    }

    /// Waits for the first event from now on that `wanted` accepts. A failure
    /// that was not waited for ends the test with everything that was said.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = match self.events.recv_timeout(PATIENCE) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => panic!("no {what}; events: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("kiln dev ended before {what}; events: {:#?}", self.seen)
                }
            };
            self.seen.push(event.clone());
            if wanted(&event) {
                return event;
            }
            let trouble = matches!(
                event,
                Event::Failed { .. } | Event::BuildFailed { .. } | Event::DeployFailed { .. }
            );
            assert!(
                !trouble,
                "waiting for {what}: {event:#?}\nbefore it: {:#?}",
                self.seen
            );
        }
    }

    /// Waits until everything is deployed and ready.
    pub fn ready(&mut self) {
        self.wait("a ready deploy", |e| matches!(e, Event::DeployReady { .. }));
    }

    /// Everything that was said so far.
    pub fn seen(&self) -> &[Event] {
        &self.seen
    }

    /// Forgets what was said so far.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// The process id of `kiln`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, for example `INT`.
    pub fn signal(&self, name: &str) {
        self.signals(&[name]);
    }

    /// Sends signals one right after the other.
    pub fn signals(&self, names: &[&str]) {
        let kills = names
            .iter()
            .map(|name| format!("kill -{name} {}", self.pid()));
        let script = kills.collect::<Vec<_>>().join("; ");
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("sh runs").success());
    }

    /// Waits for the end; the exit code.
    pub fn ended(mut self) -> i32 {
        while self.events.recv_timeout(PATIENCE).is_ok() {}
        let status = self.child.wait().expect("kiln ends");
        status.code().unwrap_or(-1)
    }

    /// Ctrl-C, then waits for the end. Returns the exit code and the events
    /// that came after it.
    pub fn interrupt(mut self) -> (i32, Vec<Event>) {
        self.signal("INT");
        let mut rest = Vec::new();
        while let Ok(event) = self.events.recv_timeout(PATIENCE) {
            rest.push(event);
        }
        let status = self.child.wait().expect("kiln ends");
        (status.code().unwrap_or(-1), rest)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A test that panicked must not leave a loop running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
