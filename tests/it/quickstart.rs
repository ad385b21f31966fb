//! The quickstart on this machine, without a cluster.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kiln_schemas::event::Event;
use tempfile::TempDir;

use crate::kiln::{PATIENCE, binary, copy, said};
use crate::structure::root;

/// A copy of the quickstart, an empty home, and next to nothing in the environment.
struct Quickstart {
    home: TempDir,
    dir: PathBuf,
}

impl Quickstart {
    /// The hook's output is made once, in the repository's own copy.
    fn new() -> Self {
        let example = root().join("examples/quickstart");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet"])
            .current_dir(example.join("server"))
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "the server is compiled"
        );
        // Where images and pods are must not be an overlay, as /tmp may be.
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a home folder");
        let dir = home.path().join("quickstart");
        for part in [
            "kiln.yaml",
            "page",
            "counter",
            "k8s",
            "server/src",
            "server/.cargo",
            "server/Cargo.toml",
        ] {
            let (from, to) = (example.join(part), dir.join(part));
            if from.is_dir() {
                copy(&from, &to);
            } else {
                fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
                fs::copy(&from, &to).expect("a copy");
            }
        }
        let output = "server/target/release/quickstart";
        fs::create_dir_all(dir.join("server/target/release")).expect("a folder");
        fs::copy(example.join(output), dir.join(output)).expect("the hook's output");
        Self { home, dir }
    }

    fn kiln(&self, args: &[&str]) -> Command {
        let path = self.home.path().join("bin");
        fs::create_dir_all(&path).expect("a folder");
        for tool in ["cat", "ls", "true"] {
            drop(std::os::unix::fs::symlink(
                Path::new("/usr/bin").join(tool),
                path.join(tool),
            ));
        }
        let mut command = Command::new(binary());
        command
            .args(args)
            .current_dir(&self.dir)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", path)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.kiln(args).output().expect("kiln runs");
        assert!(
            output.status.success(),
            "kiln {args:?} failed:\n{}",
            said(&output)
        );
        output
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        // What a failed test leaves running.
        drop(self.kiln(&["delete", "--local"]).output());
    }
}

fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

fn until(address: &str, wanted: &str) -> String {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let answer = get(address);
        if let Some(text) = answer.as_ref().filter(|text| text.contains(wanted)) {
            return text.clone();
        }
        assert!(Instant::now() < give_up, "{answer:?} instead of {wanted}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where the page is.
fn page(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let mut address = events.filter_map(|event| match event {
        Event::Forwarding {
            resource, local, ..
        } if resource == "service/page" => Some(local),
        _ => None,
    });
    address
        .next_back()
        .unwrap_or_else(|| panic!("no address of the page in {text}"))
}

/// Runs in a network that has nothing but its own loopback, where this user may make one.
pub fn without_network(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Not as root the machine's network stays visible.
            drop(kiln_sandbox::namespace::own_network());
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn the_quickstart_answers_without_cluster_network_or_environment() {
    without_network(|| {
        let quickstart = Quickstart::new();
        // No kubeconfig: the first line says where it runs.
        let plain = quickstart.run(&["dev", "--once", "--output=plain"]);
        let first = said(&plain).lines().next().unwrap_or_default().to_owned();
        assert!(
            first.contains("this machine, because there is no kubeconfig"),
            "{first}"
        );
        // Again: nothing is built, and the same pods go on.
        let again = quickstart.run(&["dev", "--once", "--output=json"]);
        let address = page(&again);
        let text = until(&address, "Hello from Kiln");
        assert!(
            text.contains("Visit 1.") && text.contains("the dev overlay"),
            "{text}"
        );
        assert!(until(&address, "Hello").contains("Visit 2."));
        assert!(
            !said(&again).contains("\"outcome\":\"built\""),
            "{}",
            said(&again)
        );

        let mut dev = start(&quickstart);
        until(&address, "Hello from Kiln");
        fs::write(quickstart.dir.join("page/greeting.txt"), "Good morning\n").expect("an edit");
        until(&address, "Good morning");
        // SIGKILL: what runs goes on, and is found again.
        dev.kill().expect("kill -9");
        dev.wait().expect("it is gone");
        let listed = said(&quickstart.run(&["ps"]));
        assert!(
            listed.contains("page-") && listed.contains("counter-"),
            "{listed}"
        );
        assert!(said(&quickstart.run(&["logs", "page"])).contains("page listens on 8080"));
        quickstart.run(&["delete"]);
        assert!(get(&address).is_none(), "nothing listens any more");
        let rest = quickstart.run(&["ps", "--local"]);
        assert!(!said(&rest).contains("page-"), "{}", said(&rest));
    });
}

fn start(quickstart: &Quickstart) -> Child {
    let mut command = quickstart.kiln(&["dev", "--output=json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("kiln dev");
    let stdout = child.stdout.take().expect("stdout");
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
        for line in lines.map_while(Result::ok) {
            if line.contains("\"watching\"") {
                let _ = ready.send(());
            }
        }
    });
    is_ready
        .recv_timeout(PATIENCE)
        .expect("it waits for changes");
    child
}

#[test]
fn only_dev_falls_back_to_this_machine() {
    let quickstart = Quickstart::new();
    for command in [&["run"][..], &["deploy", "--images=page=p:1,counter=c:1"]] {
        let output = quickstart.kiln(command).output().expect("kiln runs");
        assert!(!output.status.success());
        assert!(
            said(&output).contains("there is no kubeconfig")
                || said(&output).contains("no registry"),
            "{}",
            said(&output)
        );
    }
}
