//! `kiln dev --local` on the quickstart: from a save to the new answer, and from the start to the
//! first one, beside `podman kube play` of the same manifests. No cluster has a part in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kiln_schemas::event::{Event, Phase};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{AtPath, Error, chain, interrupt, run};
use crate::iteration::TimedEvent;
use crate::project::write;
use crate::sample::{Sample, show};

/// From a save to the new answer.
const TARGET: Duration = Duration::from_millis(300);
/// What keeps something that hangs from hanging the bench.
const PATIENCE: Duration = Duration::from_secs(300);
/// What an editing person leaves between two saves.
const REST: Duration = Duration::from_secs(1);
/// Between two questions for the new answer.
const PAUSE: Duration = Duration::from_millis(2);
/// Ports of this machine for the peer's pods.
const PEER_PORTS: [u16; 2] = [18_480, 18_481];
/// What podman calls the pods of the two deployments.
const PEER_PODS: [&str; 2] = ["page-pod-0", "counter-pod-0"];

/// What was measured.
pub struct Local {
    /// From the start of `kiln dev` to the first answer, with the server compiled.
    first: Sample,
    /// From a save to the new answer.
    edits: Sample,
    /// What the events say of each edit.
    parts: Vec<BTreeMap<Phase, Duration>>,
    /// From the start of `podman kube play` to the first answer, or why there is none.
    peer: Result<Sample, String>,
}

/// Measures; `folder` must be on a disk, where overlays can be.
pub fn measure(kiln: &Path, root: &Path, folder: &Path, runs: usize) -> Result<Local, Error> {
    let server = root.join("examples/quickstart/server");
    run(Command::new("cargo")
        .args(["build", "--release", "--quiet"])
        .current_dir(&server))?;
    std::fs::create_dir_all(folder).at("make the folder", folder)?;
    let mut first = Vec::new();
    for _ in 0..runs {
        let project = Quickstart::copy(root, folder)?;
        let started = Instant::now();
        let dev = Dev::start(kiln, &project)?;
        dev.until_answer("Hello from Kiln")?;
        first.push(started.elapsed());
        dev.end()?;
    }
    let project = Quickstart::copy(root, folder)?;
    let dev = Dev::start(kiln, &project)?;
    dev.until_answer("Hello from Kiln")?;
    let (mut edits, mut parts) = (Vec::new(), Vec::new());
    for number in 0..=runs {
        std::thread::sleep(REST);
        while dev.events.try_recv().is_ok() {}
        let greeting = format!("This is edit {number}.");
        let saved = Instant::now();
        write(&project.dir.join("page/greeting.txt"), &greeting)?;
        dev.until_answer(&greeting)?;
        let took = saved.elapsed();
        let turn = dev.turn()?;
        // The first warms the caches.
        if number > 0 {
            edits.push(took);
            parts.push(turn);
        }
    }
    dev.end()?;
    let peer = podman(&project, runs).map_err(|error| chain(&error));
    let none = || Error::Loop("nothing was measured".to_owned());
    Ok(Local {
        first: Sample::new(first).ok_or_else(none)?,
        edits: Sample::new(edits).ok_or_else(none)?,
        parts,
        peer,
    })
}

/// A copy of the example with a home of its own.
struct Quickstart {
    home: TempDir,
    dir: PathBuf,
}

impl Quickstart {
    fn copy(root: &Path, folder: &Path) -> Result<Self, Error> {
        let home = tempfile::tempdir_in(folder).at("make a temporary folder in", folder)?;
        let dir = home.path().join("quickstart");
        let example = root.join("examples/quickstart");
        // The hook's output comes last: it is newer than its inputs.
        let output = "server/target/release/quickstart";
        let parts = [
            "kiln.yaml",
            "page",
            "counter",
            "k8s",
            "server/src",
            "server/.cargo",
            "server/Cargo.toml",
            "server/Cargo.lock",
            output,
        ];
        for part in parts {
            let to = dir.join(part);
            let parent = to.parent().unwrap_or(&dir);
            std::fs::create_dir_all(parent).at("make the folder", parent)?;
            let from = example.join(part);
            run(Command::new("cp").arg("-r").args([&from, &to]))?;
        }
        Ok(Self { home, dir })
    }

    fn kiln(&self, kiln: &Path) -> Command {
        let mut command = Command::new(kiln);
        command
            .current_dir(&self.dir)
            .env("HOME", self.home.path())
            .stdin(Stdio::null());
        for name in ["XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command
    }
}

/// A loop on this machine.
struct Dev<'a> {
    child: Child,
    events: Receiver<TimedEvent>,
    address: String,
    kiln: &'a Path,
    project: &'a Quickstart,
}

impl<'a> Dev<'a> {
    fn start(kiln: &'a Path, project: &'a Quickstart) -> Result<Self, Error> {
        let errors = project.home.path().join("stderr");
        let errors_file = File::create(&errors).at("write", &errors)?;
        let mut child = project
            .kiln(kiln)
            .args(["dev", "--local", "--output=json"])
            .stdout(Stdio::piped())
            .stderr(errors_file)
            .spawn()
            .map_err(|source| Error::Start {
                program: "kiln dev --local".to_owned(),
                source,
            })?;
        let (send, events) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let event = TimedEvent::parse(&line);
                    if event.is_ok_and(|event| send.send(event).is_err()) {
                        break;
                    }
                }
            });
        }
        let mut dev = Self {
            child,
            events,
            address: String::new(),
            kiln,
            project,
        };
        while dev.address.is_empty() {
            if let Event::Forwarding {
                resource, local, ..
            } = dev.next()?
                && resource == "service/page"
            {
                dev.address = local;
            }
        }
        Ok(dev)
    }

    fn next(&self) -> Result<Event, Error> {
        let event = self.events.recv_timeout(PATIENCE);
        let event = event.map_err(|_| {
            let errors = std::fs::read_to_string(self.project.home.path().join("stderr"));
            Error::Loop(format!(
                "it says nothing more: {}",
                errors.unwrap_or_default()
            ))
        })?;
        match event.event {
            Event::Failed { failure }
            | Event::BuildFailed { failure, .. }
            | Event::DeployFailed { failure } => Err(Error::Loop(failure.message)),
            event => Ok(event),
        }
    }

    fn until_answer(&self, wanted: &str) -> Result<(), Error> {
        until_answer(&self.address, wanted)
    }

    /// What took how long, up to the end of the rollout.
    fn turn(&self) -> Result<BTreeMap<Phase, Duration>, Error> {
        let mut parts = BTreeMap::new();
        loop {
            if let Event::Timing { phase, ms, .. } = self.next()? {
                *parts.entry(phase).or_default() += Duration::from_millis(ms);
                if phase == Phase::Rollout {
                    return Ok(parts);
                }
            }
        }
    }

    fn end(mut self) -> Result<(), Error> {
        interrupt(&self.child)?;
        // How it ended says nothing about its times.
        drop(self.child.wait());
        run(self.project.kiln(self.kiln).args(["delete", "--local"])).map(|_| ())
    }
}

impl Drop for Dev<'_> {
    fn drop(&mut self) {
        // Only what `end` has not ended yet.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            drop(self.child.kill());
            drop(self.child.wait());
            drop(run(self
                .project
                .kiln(self.kiln)
                .args(["delete", "--local"])));
        }
    }
}

fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn until_answer(address: &str, wanted: &str) -> Result<(), Error> {
    let started = Instant::now();
    while !get(address).is_some_and(|text| text.contains(wanted)) {
        if started.elapsed() > PATIENCE {
            return Err(Error::Loop(format!("{address} never says {wanted}")));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// The same manifests under `podman kube play`: images built before, services left out, which it
/// does not have. Its pods get a port of this machine each.
fn podman(project: &Quickstart, runs: usize) -> Result<Sample, Error> {
    let podman = |words: &[&str]| {
        let mut command = Command::new("podman");
        command.args(words).current_dir(&project.dir);
        command
    };
    run(&mut podman(&["--version"]))?;
    let mut manifests = String::new();
    for (name, port) in ["page", "counter"].into_iter().zip(PEER_PORTS) {
        let image = format!("localhost/kiln-bench-{name}:1");
        let dockerfile = format!("{name}/Dockerfile");
        run(&mut podman(&[
            "build",
            "-q",
            "-t",
            &image,
            "-f",
            &dockerfile,
            ".",
        ]))?;
        let file = project.dir.join(format!("k8s/base/{name}.yaml"));
        let text = std::fs::read_to_string(&file).at("read", &file)?;
        let deployment = text.split("---\n").next().unwrap_or_default();
        let deployment = deployment
            .replace(
                &format!("image: {name}\n"),
                &format!("image: {image}\n          imagePullPolicy: Never\n"),
            )
            .replace(
                "containerPort: 8080",
                &format!("containerPort: 8080, hostPort: {port}"),
            );
        manifests.push_str("---\n");
        manifests.push_str(&deployment);
    }
    let file = project.dir.join("podman.yaml");
    write(&file, &manifests)?;
    let file = file.display().to_string();
    for pod in PEER_PODS {
        if podman(&["pod", "exists", pod])
            .status()
            .is_ok_and(|status| status.success())
        {
            return Err(Error::Loop(format!("podman has a pod {pod} already")));
        }
    }
    let mut took = Vec::new();
    for number in 0..=runs {
        let started = Instant::now();
        let played = run(&mut podman(&["kube", "play", &file]));
        let answered = played
            .and_then(|_| until_answer(&format!("127.0.0.1:{}", PEER_PORTS[0]), "This is edit"));
        let elapsed = started.elapsed();
        // `kube down` leaves pods of a play that failed.
        for pod in PEER_PODS {
            drop(run(&mut podman(&["pod", "rm", "-f", "-i", pod])));
        }
        answered?;
        // The first makes podman's own pause image.
        if number > 0 {
            took.push(elapsed);
        }
    }
    Sample::new(took).ok_or_else(|| Error::Loop("nothing was measured".to_owned()))
}

impl Local {
    /// The table.
    pub fn table(&self) -> String {
        let mut text =
            "quickstart on this machine: one edited static file under `kiln dev --local`\n"
                .to_owned();
        let mut row = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<26}{value}");
        };
        let head = format!(
            "{:>9}   {:>9} – max of {}",
            "median",
            "min",
            self.edits.count()
        );
        row("part", &head);
        let phases: std::collections::BTreeSet<Phase> = self
            .parts
            .iter()
            .flat_map(|turn| turn.keys().copied())
            .collect();
        for phase in phases {
            let took = |turn: &BTreeMap<Phase, Duration>| turn.get(&phase).copied();
            let part = self.parts.iter().map(|turn| took(turn).unwrap_or_default());
            if let Some(part) = Sample::new(part.collect()) {
                row(
                    &crate::report::name(phase).to_lowercase(),
                    &part.to_string(),
                );
            }
        }
        let verdict = crate::report::verdict(self.edits.median(), TARGET);
        row("edit to new answer", &format!("{}   {verdict}", self.edits));
        row("start to first answer", &self.first.to_string());
        match &self.peer {
            Ok(peer) => {
                let ratio = self.first.median().as_secs_f64() / peer.median().as_secs_f64();
                row(
                    "podman kube play",
                    &format!("{peer}   images built before, no services"),
                );
                let ratio = format!(
                    "{ratio:>9.2}   kiln, which also builds, to podman: {} to {}",
                    show(self.first.median()),
                    show(peer.median())
                );
                row("ratio", &ratio);
            }
            Err(why) => row("podman kube play", &format!("not measured: {why}")),
        }
        text
    }

    /// The same as data, in milliseconds.
    pub fn json(&self) -> Value {
        let sample = |sample: &Sample| {
            let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
            json!({"median": ms(sample.median()), "min": ms(sample.min()), "max": ms(sample.max())})
        };
        json!({
            "case": "local",
            "edit": sample(&self.edits),
            "first": sample(&self.first),
            "podman": self.peer.as_ref().map(sample).ok(),
        })
    }
}
