//! A project of one image, busybox, on this machine: what a user sees of the loop and of a
//! terminal in a container.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use crate::kiln::{PATIENCE, Project, binary, said};
use crate::quickstart::{ORDINARY, as_ordinary, no_ordinary_user, without_network};

const KILN: &str =
    "apiVersion: kiln.dev/v1\nname: small\nimages: [{name: box}]\ndeploy: {overlay: k8s}\n";
const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/stty\nCOPY busybox /bin/sleep\nCOPY note /note\nCMD [\"/bin/sleep\", \"100000\"]\n";
const KUSTOMIZATION: &str = "resources: [box.yaml]\n";
const MANIFEST: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: box}
spec:
  selector: {matchLabels: {app: box}}
  template:
    metadata: {labels: {app: box}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: box, image: box}]
";

pub struct Small {
    pub home: TempDir,
    pub dir: PathBuf,
}

impl Small {
    /// [`None`] where there is no busybox that needs no libraries; then it was said.
    pub fn new() -> Option<Self> {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a home folder");
        let dir = home.path().join("small");
        fs::create_dir_all(dir.join("k8s")).expect("folders");
        let small = Self { home, dir };
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let Some(busybox) = busybox.into_iter().find(|path| path.exists()) else {
            skip("no static busybox (Debian: busybox-static)");
            return None;
        };
        fs::copy(busybox, small.dir.join("busybox")).expect("busybox");
        small.write("kiln.yaml", KILN);
        small.write("Dockerfile", DOCKERFILE);
        small.write("note", "one\n");
        small.write("k8s/kustomization.yaml", KUSTOMIZATION);
        small.write("k8s/box.yaml", MANIFEST);
        Some(small)
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.dir.join(path), text).expect("a file");
    }

    /// `program` in an environment of next to nothing.
    fn clean(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    pub fn kiln(&self, args: &[&str]) -> Output {
        let mut command = self.clean(binary());
        command.args(args).output().expect("kiln runs")
    }

    pub fn run(&self, args: &[&str]) -> String {
        let output = self.kiln(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        said(&output)
    }

    /// `kiln dev`, waiting for changes.
    pub fn dev(&self, args: &[&str]) -> Dev {
        let mut command = self.clean(binary());
        command
            .args(["dev", "--local", "--output=plain"])
            .args(args);
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kiln dev");
        let (lines, shown) = channel();
        let streams = [
            Box::new(process.stdout.take().expect("stdout")) as Box<dyn Read + Send>,
            Box::new(process.stderr.take().expect("stderr")),
        ];
        for stream in streams {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // Whoever reads them may have seen enough.
                    drop(lines.send(line));
                }
            });
        }
        Dev {
            process,
            shown,
            lines: Vec::new(),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What a failed test leaves running.
        drop(self.kiln(&["delete", "--local"]));
    }
}

/// A running loop.
pub struct Dev {
    pub process: Child,
    shown: Receiver<String>,
    pub lines: Vec<String>,
}

impl Dev {
    /// Waits for a line with this in it.
    pub fn until(&mut self, wanted: &str) -> String {
        loop {
            let line = self.shown.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {wanted:?} in {:#?}", self.lines));
            self.lines.push(line.clone());
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// Ctrl-C; its code.
    pub fn interrupt(&mut self) -> Option<i32> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::INT).expect("a signal");
        self.process.wait().expect("its end").code()
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a skipped test must say so in the test's output"
)]
fn skip(why: &str) {
    let required = kiln_test_cluster::Environment::of_process().require_all;
    assert!(!required, "{why}");
    eprintln!("skipped: {why}");
}

/// A terminal with a person in front of it.
struct Person {
    keyboard: fs::File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    fn sits_down() -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a terminal");
        unlockpt(&ours).expect("unlocked");
        let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other side");
        let keyboard = fs::File::from(ours);
        let mut screen = keyboard.try_clone().expect("a copy");
        let (bytes, shown) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                // Nobody looks any more.
                drop(bytes.send(buffer[..length].to_vec()));
            }
        });
        let person = Self {
            keyboard,
            screen: shown,
            seen: String::new(),
        };
        person.resizes(100, 40);
        (person, theirs)
    }

    fn resizes(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard, size).expect("a size");
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("keys");
    }

    /// Waits until this is seen, and forgets everything up to it.
    fn sees(&mut self, wanted: &str) {
        loop {
            if let Some(at) = self.seen.find(wanted) {
                self.seen.drain(..at + wanted.len());
                return;
            }
            let bytes = self.screen.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("no {wanted:?} in {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

/// A conversation with a shell that `command`, with `kiln exec` behind it, starts in a container.
fn talk_to_a_shell(mut command: Command, exec: &[&str]) {
    let (mut person, terminal) = Person::sits_down();
    let stream = || Stdio::from(terminal.try_clone().expect("a copy"));
    // The terminal is kiln's own: without further ado Ctrl-C in it would end kiln.
    command
        .args(["--ctty", "--wait"])
        .arg(binary())
        .args(exec)
        .stdin(stream())
        .stdout(stream())
        .stderr(stream());
    let mut kiln = command.spawn().expect("setsid of util-linux");
    person.types("echo $((6*7))\r");
    person.sees("\r\n42\r\n");
    person.types("stty size\r");
    person.sees("\r\n40 100\r\n");
    person.resizes(72, 20);
    // The size takes its way through two terminals.
    person.types("until [ \"$(stty size)\" = '20 72' ]; do sleep 0.1; done; echo resi''zed\r");
    person.sees("\r\nresized\r\n");
    person.types("sh -c 'echo be''gun; exec sleep 1000'\r");
    person.sees("\r\nbegun\r\n");
    person.types("\u{3}");
    person.types("echo code $?\r");
    person.sees("\r\ncode 130\r\n");
    person.types("exit 3\r");
    assert_eq!(kiln.wait().expect("its end").code(), Some(3));
}

#[test]
fn a_shell_in_a_container_has_the_users_terminal() {
    without_network(|| {
        let Some(small) = Small::new() else { return };
        small.run(&["dev", "--local", "--once"]);
        let shell = ["exec", "--local", "-it", "box", "--", "/bin/sh"];
        talk_to_a_shell(small.clean("setsid"), &shell);
        // Without a terminal it is said, and the command runs all the same.
        let output = small.kiln(&[
            "exec", "--local", "-t", "box", "--", "/bin/sh", "-c", "exit 4",
        ]);
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        assert!(
            said(&output).contains("gets no terminal"),
            "{}",
            said(&output)
        );
    });
}

#[test]
fn a_shell_in_a_container_of_a_cluster_has_the_users_terminal() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("shell").expect("a namespace");
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let repo = format!("{PLAIN_REGISTRY}/tests/shell-{}", namespace.name());
    project.run(&["run", "-n", namespace.name(), "-d", &repo]);
    let shell = [
        "exec",
        "-n",
        namespace.name(),
        "-it",
        "page",
        "--",
        "/bin/sh",
    ];
    talk_to_a_shell(project.in_network("setsid"), &shell);
}

#[test]
fn an_ordinary_user_has_the_machines_network_as_the_way_out() {
    if let Some(why) = no_ordinary_user() {
        return skip(&why);
    }
    let Some(small) = Small::new() else { return };
    // What a pod of its own network does not reach.
    let outside = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = outside.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in outside.incoming().flatten() {
            // A client that is gone was answered before.
            drop(stream.write_all(b"from outside\n"));
        }
    });
    small.write(
        "Dockerfile",
        &DOCKERFILE.replace("COPY note", "COPY busybox /bin/nc\nCOPY note"),
    );
    small.write(
        "k8s/box.yaml",
        &MANIFEST.replace("    spec:\n", "    spec:\n      hostNetwork: true\n"),
    );
    let owned = Command::new("chown")
        .args(["-R", &format!("{ORDINARY}:{ORDINARY}")])
        .arg(small.home.path())
        .status();
    assert!(owned.is_ok_and(|status| status.success()));
    let kiln = |args: &[&str]| {
        let mut command = as_ordinary(binary());
        command
            .args(args)
            .current_dir(&small.dir)
            .env_clear()
            .env("HOME", small.home.path())
            // newuidmap is found here.
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        let output = command.output().expect("kiln runs");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        said(&output)
    };
    kiln(&["dev", "--local", "--once"]);
    let ask = format!("nc 127.0.0.1 {port} < /dev/null");
    let answer = kiln(&["exec", "--local", "box", "--", "/bin/sh", "-c", &ask]);
    assert_eq!(answer, "from outside\n");
    kiln(&["delete", "--local"]);
}

#[test]
fn ctrl_c_ends_what_runs_on_this_machine_unless_it_is_to_stay() {
    without_network(|| {
        let Some(small) = Small::new() else { return };
        let mut dev = small.dev(&[]);
        let last = dev.until("watching");
        assert!(
            last.contains("Ctrl-C ends and deletes what was deployed"),
            "{last}"
        );
        assert_eq!(dev.interrupt(), Some(0));
        assert!(!small.run(&["ps", "--local"]).contains("box-"));
        let mut dev = small.dev(&["--cleanup=false"]);
        let last = dev.until("watching");
        assert!(
            last.contains("what was deployed goes on; `kiln delete --local` deletes it"),
            "{last}"
        );
        assert_eq!(dev.interrupt(), Some(0));
        assert!(small.run(&["ps", "--local"]).contains("box-"));
        small.run(&["delete", "--local"]);
        assert!(!small.run(&["ps", "--local"]).contains("box-"));
    });
}

#[test]
fn warnings_of_the_renderer_are_shown_once_in_the_loop() {
    without_network(|| {
        let Some(small) = Small::new() else { return };
        let old = format!("{KUSTOMIZATION}commonLabels: {{team: a}}\n");
        small.write("k8s/kustomization.yaml", &old);
        let warning = "`commonLabels` is deprecated; use `labels` instead";
        let mut dev = small.dev(&[]);
        dev.until("watching");
        small.write("note", "two\n");
        dev.until("changed");
        dev.until("watching");
        let warned = dev.lines.iter().filter(|line| line.contains(warning));
        assert_eq!(warned.count(), 1, "{:#?}", dev.lines);
        dev.interrupt();
        let rendered = small.kiln(&["render", "--images=box=box:1"]);
        assert!(said(&rendered).contains(warning), "{}", said(&rendered));
        assert!(!String::from_utf8_lossy(&rendered.stdout).contains("deprecated"));
    });
}

#[test]
fn of_two_loops_on_this_machine_the_last_one_cleans_up() {
    without_network(|| {
        let Some(small) = Small::new() else { return };
        let mut first = small.dev(&[]);
        first.until("watching");
        let mut second = small.dev(&[]);
        second.until("another `kiln dev` of this project runs on this machine");
        second.until("watching");
        assert_eq!(first.interrupt(), Some(0));
        first.until("goes on with the other");
        assert!(small.run(&["ps", "--local"]).contains("box-"));
        // It still works: an edit is built and deployed.
        small.write("note", "two\n");
        second.until("changed");
        second.until("watching");
        let note = [
            "exec",
            "--local",
            "box",
            "--",
            "/bin/sh",
            "-c",
            "read -r line < /note; echo $line",
        ];
        assert_eq!(small.run(&note), "two\n");
        assert_eq!(second.interrupt(), Some(0));
        assert!(!small.run(&["ps", "--local"]).contains("box-"));
    });
}

#[test]
fn a_home_that_cannot_be_written_is_said_before_anything_is_built() {
    let Some(small) = Small::new() else { return };
    let mut command = small.clean(binary());
    command.args(["dev", "--local", "--once"]);
    // A file: no folder can be made below it, not even by root.
    let home = small.dir.join("note");
    let output = command.env("HOME", &home).output().expect("kiln runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("cannot write in") && text.contains("set XDG_STATE_HOME to a folder"),
        "{text}"
    );
    assert!(!text.contains("building"), "{text}");
}

#[test]
fn a_probe_that_fails_is_told_and_ctrl_c_ends_the_wait() {
    without_network(|| {
        let Some(small) = Small::new() else { return };
        let probe = "readinessProbe: {periodSeconds: 1, failureThreshold: 1, httpGet: {path: /, port: absent}}";
        small.write(
            "k8s/box.yaml",
            &MANIFEST.replace("image: box}", &format!("image: box, {probe}}}")),
        );
        let mut dev = small.dev(&[]);
        let told = dev.until("the readiness probe fails");
        assert!(told.contains("there is no such port"), "{told}");
        assert_eq!(dev.interrupt(), Some(0));
        assert!(!small.run(&["ps", "--local"]).contains("box-"));
    });
}
