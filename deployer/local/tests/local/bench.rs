//! A holder with an image of busybox, and ways to look at what runs in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kiln_local::client::Holder;
use kiln_local::desired::{Desired, Forward, Image, Name, Target};
use kiln_local::manifest;
use kiln_local::protocol::{Answer, Applied, ExecWish, LogWish, PodView, World};
use tempfile::TempDir;

/// A test by its name.
pub type Case = (&'static str, fn(&Bench));

/// After so long something hangs; nothing is expected to take a fixed time.
const HANGS: Duration = Duration::from_secs(120);

/// As in CI: a test that cannot run fails.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment tells a test what may be missing"
)]
fn all_required() -> bool {
    std::env::var_os("KILN_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// One holder.
pub struct Bench {
    pub folder: TempDir,
    pub holder: Holder,
    pub image: PathBuf,
    pub runtime: tokio::runtime::Runtime,
}

/// Runs the cases that the arguments name, all without any.
pub fn run(cases: &[Case]) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    if words.iter().any(|word| word == "--list") {
        for (name, _) in cases {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, case) in cases {
        if !names.is_empty() && !names.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let started = Instant::now();
        let Some(bench) = Bench::new() else {
            let why = "no static busybox (Debian: busybox-static)";
            if all_required() {
                println!("test {name} ... FAILED: {why}");
                failed.push(*name);
            } else {
                println!("test {name} ... skipped: {why}");
            }
            continue;
        };
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| case(&bench)));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {word} ({} ms)",
            started.elapsed().as_millis()
        );
        if result.is_err() {
            println!("{:#?}", bench.try_world());
            println!("{}", bench.logs(None));
            let log = bench.folder.path().join("state/node.log");
            println!("{}", fs::read_to_string(log).unwrap_or_default());
            failed.push(*name);
        }
        drop(bench.runtime.block_on(bench.holder.leave()));
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

impl Bench {
    fn new() -> Option<Self> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let busybox = busybox.into_iter().find(|path| path.exists())?;
        // Not below /tmp: that may be an overlay or in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let image = folder.path().join("image");
        for name in ["bin", "etc", "tmp", "var/run"] {
            fs::create_dir_all(image.join(name)).expect("folders");
        }
        fs::copy(busybox, image.join("bin/busybox")).expect("busybox");
        for applet in [
            "sh", "cat", "echo", "sleep", "nc", "httpd", "hostname", "id", "ls", "touch", "wget",
            "env", "kill", "test", "mkdir", "stat", "nslookup", "true", "false", "dd", "ps", "seq",
            "date", "grep", "rm",
        ] {
            std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).expect("link");
        }
        fs::write(
            image.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
        )
        .expect("passwd");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let holder = Holder::of(folder.path().join("state"));
        Some(Self {
            folder,
            holder,
            image,
            runtime,
        })
    }

    /// Reads YAML-like JSON manifests and runs them.
    pub fn apply(&self, objects: &[serde_json::Value]) -> Applied {
        self.apply_with(objects, Vec::new())
    }

    pub fn apply_with(&self, objects: &[serde_json::Value], forwards: Vec<Forward>) -> Applied {
        self.run(objects, vec![self.image.clone()], |desired| {
            desired.forwards = forwards;
        })
    }

    /// With an image of these layers, which are in a store.
    pub fn apply_layers(
        &self,
        objects: &[serde_json::Value],
        layers: Vec<PathBuf>,
        store: Option<PathBuf>,
    ) -> Applied {
        self.run(objects, layers, |desired| desired.store = store)
    }

    /// With a way to the outside.
    pub fn apply_outside(&self, objects: &[serde_json::Value], pasta: PathBuf) -> Applied {
        self.run(objects, vec![self.image.clone()], |desired| {
            desired.egress = Some(pasta);
        })
    }

    /// Says why a case cannot run here; where everything is required, that is a failure.
    pub fn skip(&self, why: &str) {
        assert!(!all_required(), "{why}");
        println!("  skipped: {why}");
    }

    fn run(
        &self,
        objects: &[serde_json::Value],
        layers: Vec<PathBuf>,
        change: impl FnOnce(&mut Desired),
    ) -> Applied {
        let reading = manifest::read(objects, "default").expect("manifests");
        assert_eq!(reading.unsupported, [""; 0]);
        let mut desired = reading.desired;
        let image = Image {
            layers,
            cmd: vec!["/bin/sh".into()],
            ..Image::default()
        };
        desired.images = BTreeMap::from([("box".to_owned(), image)]);
        change(&mut desired);
        self.holder.start().expect("the holder starts");
        self.runtime
            .block_on(self.holder.apply(desired))
            .expect("it applies")
    }

    pub fn try_world(&self) -> Option<World> {
        self.runtime.block_on(self.holder.world()).ok()
    }

    /// Waits until the world is as wanted.
    pub fn until(&self, what: &str, wanted: impl Fn(&World) -> bool) -> World {
        let work = async {
            let mut answers = self.holder.watch().await.expect("a watch");
            while let Some(Answer::World(world)) = answers.next().await.expect("an answer") {
                if wanted(&world) {
                    return world;
                }
            }
            panic!("the holder ended before: {what}");
        };
        let work = async { tokio::time::timeout(HANGS, work).await };
        self.runtime
            .block_on(work)
            .unwrap_or_else(|_| panic!("it hangs: {what}"))
    }

    pub fn until_ready(&self) -> World {
        self.until("everything is ready", |world| {
            let ready = |w: &kiln_local::protocol::WorkloadView| {
                w.state == kiln_local::protocol::WorkloadState::Ready
            };
            !world.workloads.is_empty() && world.workloads.iter().all(ready)
        })
    }

    /// All lines of a pod's containers.
    pub fn logs(&self, pod: Option<&str>) -> String {
        let wish = LogWish {
            pod: pod.map(str::to_owned),
            past: true,
            ..LogWish::default()
        };
        let work = async {
            let mut text = String::new();
            let Ok(mut answers) = self.holder.logs(wish).await else {
                return text;
            };
            while let Ok(Some(Answer::Line(line))) = answers.next().await {
                text.push_str(&format!("{}\n", line.text));
            }
            text
        };
        self.runtime.block_on(work)
    }

    /// Waits for a line of a pod.
    pub fn until_line(&self, pod: &str, wanted: &str) -> String {
        let started = Instant::now();
        loop {
            let logs = self.logs(Some(pod));
            if logs.lines().any(|line| line == wanted) {
                return logs;
            }
            assert!(
                started.elapsed() < HANGS,
                "{pod} never says {wanted:?}, but {logs:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Follows all logs while something is done, until a line comes.
    pub fn follow_while(&self, wanted: &str, work: impl FnOnce()) {
        let wish = LogWish {
            follow: true,
            ..LogWish::default()
        };
        let mut answers = self.runtime.block_on(self.holder.logs(wish)).expect("logs");
        work();
        let lines = async {
            while let Some(answer) = answers.next().await.expect("an answer") {
                if matches!(answer, Answer::Line(line) if line.text == wanted) {
                    return;
                }
            }
            panic!("the holder ended before {wanted:?}");
        };
        let lines = async { tokio::time::timeout(HANGS, lines).await };
        self.runtime
            .block_on(lines)
            .unwrap_or_else(|_| panic!("nobody says {wanted:?}"));
    }

    /// What a command in a container prints, and its code.
    pub fn exec(&self, pod: &str, command: &[&str]) -> (i32, String) {
        let mut output = tempfile::tempfile().expect("a file");
        let null = fs::File::open("/dev/null").expect("null");
        let wish = ExecWish {
            pod: pod.to_owned(),
            container: None,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            terminal: false,
        };
        let streams = [null.as_fd(), output.as_fd(), output.as_fd()];
        let code = self.runtime.block_on(self.holder.exec(wish, streams));
        let code = code.expect("exec");
        let mut text = String::new();
        std::io::Seek::rewind(&mut output).expect("rewind");
        output.read_to_string(&mut text).expect("output");
        (code, text)
    }

    /// Gets a path from a port of this machine, again until somebody answers.
    pub fn get(&self, address: &str, path: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(text) = try_get(address, path) {
                return text;
            }
            assert!(started.elapsed() < HANGS, "{address} does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn try_get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some(body.to_owned())
}

pub fn pod<'a>(world: &'a World, name: &str) -> &'a PodView {
    let mut pods = world.pods.iter();
    pods.find(|pod| pod.name.name.starts_with(name) && !pod.stopping)
        .expect("the pod")
}

pub fn forward(service: &str, port: u16, local_port: Option<u16>) -> Forward {
    Forward {
        kind: "Service".to_owned(),
        name: Name::new("default", service),
        port: Target::Number(port),
        address: "127.0.0.1".to_owned(),
        local_port,
    }
}
