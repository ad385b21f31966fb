//! The quickstart on this machine, without a cluster.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kiln_schemas::event::Event;
use kiln_test_cluster::{ADMIN_CONTEXT, Cluster, PLAIN_REGISTRY};
use tempfile::TempDir;

use crate::kiln::{PATIENCE, binary, copy, said};
use crate::objects;
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

    /// User-level settings: registries of these tests have no certificate.
    fn allow_plain(&self, registry: &str) {
        let folder = self.home.path().join(".config/kiln");
        fs::create_dir_all(&folder).expect("a folder");
        let text = format!("global:\n  insecure-registries: [\"{registry}\"]\n");
        fs::write(folder.join("config.yaml"), text).expect("settings");
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let file = self.dir.join(path);
        let text = fs::read_to_string(&file).expect("the file");
        assert!(text.contains(from), "{path} does not contain {from}");
        fs::write(file, text.replace(from, to)).expect("an edit");
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

/// The quickstart with a user of the cluster.
fn in_cluster(quickstart: &Quickstart, cluster: &Cluster, args: &[&str]) -> Output {
    let mut command = cluster.command(binary());
    command
        .args(args)
        .current_dir(&quickstart.dir)
        .env("HOME", quickstart.home.path())
        .env("USER", "developer")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_STATE_HOME")
        .env_remove("DOCKER_CONFIG")
        .stdin(Stdio::null());
    command.output().expect("kiln runs")
}

#[test]
fn the_quickstart_answers_alike_on_this_machine_and_on_a_cluster() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("quickstart").expect("a namespace");
    let quickstart = Quickstart::new();
    quickstart.allow_plain(PLAIN_REGISTRY);
    let here = quickstart.run(&["dev", "--local", "--once", "--output=json"]);
    let here_answer = until(&page(&here), "Hello from Kiln");

    let context = format!("--kube-context={ADMIN_CONTEXT}");
    let repo = format!("--default-repo={PLAIN_REGISTRY}/tests/{}", namespace.name());
    let of_namespace = format!("--namespace={}", namespace.name());
    let there = |command: &[&str]| {
        let mut args = command[..1].to_vec();
        args.extend([context.as_str(), &of_namespace]);
        args.extend(&command[1..]);
        in_cluster(&quickstart, &cluster, &args)
    };
    let deployed = there(&["dev", "--once", &repo]);
    assert!(deployed.status.success(), "{}", said(&deployed));
    let url = format!(
        "http://{}/",
        objects::service_address(&cluster, namespace.name(), "page")
    );
    // Ready pods are told to the node's network a moment later; a question that found nobody was
    // not counted.
    let give_up = Instant::now() + PATIENCE;
    let there_answer = loop {
        let asked = cluster
            .command("curl")
            .args(["-sS", "--fail", "--max-time", "10", &url])
            .output()
            .expect("curl runs");
        let answer = String::from_utf8_lossy(&asked.stdout).into_owned();
        if answer.contains("Visit 1.") {
            break answer;
        }
        assert!(
            Instant::now() < give_up && !answer.contains("Visit 2."),
            "{}",
            said(&asked)
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(here_answer, there_answer);

    // What looks at it works the same on both.
    for look in [
        &there as &dyn Fn(&[&str]) -> Output,
        &|command: &[&str]| {
            quickstart
                .kiln(command)
                .arg("--local")
                .output()
                .expect("kiln")
        },
    ] {
        let listed = said(&look(&["ps"]));
        assert!(
            listed.contains("page-") && listed.contains("counter-") && listed.contains("1/1"),
            "{listed}"
        );
        let logs = said(&look(&["logs", "page"]));
        assert!(
            logs.contains("page listens on 8080") && !logs.contains("counter"),
            "{logs}"
        );
    }
    // The server panics when it is not told its role: Rust's code 101.
    let words = ["page", "--", "/server", "nothing"];
    let exec_there = there(&[&["exec"], &words[..]].concat());
    let exec_here = quickstart
        .kiln(&[&["exec", "--local"], &words[..]].concat())
        .output()
        .expect("kiln runs");
    for output in [exec_there, exec_here] {
        assert_eq!(output.status.code(), Some(101), "{}", said(&output));
        assert!(said(&output).contains("not `nothing`"), "{}", said(&output));
    }
    let absent = there(&["exec", "absent", "--", "/server"]);
    assert_eq!(absent.status.code(), Some(6), "{}", said(&absent));
    assert!(there(&["delete"]).status.success());
}

/// A registry that ends with the value.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(quickstart: &Quickstart) -> Self {
        let dir = quickstart.home.path().join("registry");
        let mut process = quickstart
            .kiln(&["registry", "serve", "--listen=127.0.0.1:0", "--dir"])
            .arg(dir)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a registry");
        let stdout = process.stdout.take().expect("stdout");
        let stderr = process.stderr.take().expect("stderr");
        let (found, address) = std::sync::mpsc::channel();
        for stream in [Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)] {
            let found = found.clone();
            std::thread::spawn(move || {
                let lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
                for line in lines.map_while(Result::ok) {
                    if let Some((_, rest)) = line.split_once("127.0.0.1:") {
                        let digits = rest.chars().take_while(char::is_ascii_digit);
                        // Whoever wanted it has it already.
                        let _ = found.send(format!("127.0.0.1:{}", digits.collect::<String>()));
                    }
                }
            });
        }
        let address = address
            .recv_timeout(PATIENCE)
            .expect("it says where it listens");
        Self { process, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn an_image_of_the_project_and_one_of_a_registry_are_used_here() {
    without_network(|| {
        use std::os::unix::process::CommandExt as _;
        let quickstart = Quickstart::new();
        let registry = Registry::start(&quickstart);
        quickstart.allow_plain(&registry.address);
        // The counter is somebody else's image now.
        let counter = format!("{}/others/counter:1", registry.address);
        let pushed = Command::new(binary())
            .arg0("executor")
            .arg(format!("--context=dir://{}", quickstart.dir.display()))
            .arg("--dockerfile=counter/Dockerfile")
            .arg(format!("--destination={counter}"))
            .arg(format!("--insecure-registry={}", registry.address))
            .arg(format!(
                "--store-dir={}",
                quickstart.home.path().join("other").display()
            ))
            .env_clear()
            .env("HOME", quickstart.home.path())
            .output()
            .expect("the executor runs");
        assert!(pushed.status.success(), "{}", said(&pushed));
        quickstart.edit(
            "k8s/base/counter.yaml",
            "image: counter",
            &format!("image: {counter}"),
        );
        // The page is built on a third image of the project.
        quickstart.edit(
            "kiln.yaml",
            "  - name: counter\n    dockerfile: counter/Dockerfile\n",
            "    requires: {BASE: base}\n  - name: base\n    dockerfile: counter/Dockerfile\n",
        );
        quickstart.edit(
            "page/Dockerfile",
            "FROM scratch\nCOPY server/target/release/quickstart /server\n",
            "ARG BASE\nFROM $BASE\n",
        );
        let output = quickstart.run(&["dev", "--local", "--once", "--output=json"]);
        let text = said(&output);
        let base = text.find("\"event\":\"buildFinished\",\"image\":\"base\"");
        let page_starts = text.find("\"event\":\"buildStarted\",\"image\":\"page\"");
        assert!(base.is_some() && base < page_starts, "{text}");
        assert!(text.contains(&format!("pulling {counter}")), "{text}");
        let address = page(&output);
        assert!(until(&address, "Hello from Kiln").contains("Visit 1."));
        // What is there is not pulled or built again, also without the registry.
        drop(registry);
        let again = said(&quickstart.run(&["dev", "--local", "--once", "--output=json"]));
        assert!(
            !again.contains("pulling") && !again.contains("\"outcome\":\"built\""),
            "{again}"
        );
        // A change of the base builds both.
        quickstart.edit("counter/Dockerfile", "EXPOSE", "LABEL changed=yes\nEXPOSE");
        let both = said(&quickstart.run(&["dev", "--local", "--once", "--output=json"]));
        assert_eq!(both.matches("\"outcome\":\"built\"").count(), 2, "{both}");
    });
}

#[test]
fn a_build_that_a_save_supersedes_is_ended_here() {
    // The command listens on a port, which only one at a time can have.
    without_network(superseded);
}

fn superseded() {
    let quickstart = Quickstart::new();
    // A command that would hold up everything for ever.
    fs::write(
        quickstart.dir.join("page/Dockerfile"),
        "FROM scratch\nCOPY server/target/release/quickstart /server\nCOPY page/greeting.txt /page/\nRUN [\"/server\", \"counter\"]\n",
    )
    .expect("a Dockerfile");
    let mut command = quickstart.kiln(&["dev", "--local", "--output=json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("kiln dev");
    let stdout = child.stdout.take().expect("stdout");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    let mut until_line = |wanted: &str| {
        let mut seen = Vec::new();
        for line in lines.by_ref().map_while(Result::ok) {
            if line.contains(wanted) {
                return;
            }
            seen.push(line);
        }
        panic!("no {wanted} in {seen:#?}");
    };
    until_line("counter listens on 8080");
    fs::write(quickstart.dir.join("page/greeting.txt"), "Another\n").expect("an edit");
    until_line("\"buildCancelled\"");
    // The next one gets as far: the first one's command is gone, and its port with it.
    until_line("counter listens on 8080");
    child.kill().expect("kill -9");
    child.wait().expect("it is gone");
}

/// The user that owns ids in `/etc/subuid` on a machine that is prepared for this.
pub const ORDINARY: &str = "1000";

/// Why an ordinary user cannot be had here.
pub fn no_ordinary_user() -> Option<String> {
    let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut entries = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let name = entries
        .find(|fields| fields.get(2) == Some(&ORDINARY))
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()));
    let has_ids = ids.lines().any(|line| {
        let owner = line.split(':').next().unwrap_or_default();
        owner == ORDINARY || Some(owner) == name.as_deref()
    });
    if !has_ids || !Path::new("/usr/bin/newuidmap").exists() {
        return Some(format!(
            "user {ORDINARY} has no ids in /etc/subuid, or newuidmap is missing (Debian: uidmap)"
        ));
    }
    let tried = as_ordinary(binary()).arg("version").output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "user {ORDINARY} cannot run kiln: {}",
            said(&output)
        )),
        Err(error) => Some(format!("setpriv of util-linux: {error}")),
    }
}

pub fn as_ordinary(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    let ids = ["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"];
    command.args(ids).arg(program);
    command
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "a skipped test must say so in the test's output"
)]
fn an_ordinary_user_with_ids_of_its_own_runs_the_quickstart() {
    if let Some(why) = no_ordinary_user() {
        let required = kiln_test_cluster::Environment::of_process().require_all;
        assert!(!required, "{why}");
        eprintln!("skipped: {why}");
        return;
    }
    let quickstart = Quickstart::new();
    let home = quickstart.home.path();
    let owned = Command::new("chown")
        .args(["-R", &format!("{ORDINARY}:{ORDINARY}")])
        .arg(home)
        .status();
    assert!(owned.is_ok_and(|status| status.success()));
    let kiln = |args: &[&str]| {
        let mut command = as_ordinary(binary());
        command
            .args(args)
            .current_dir(&quickstart.dir)
            .env_clear()
            .env("HOME", home)
            // newuidmap is found here.
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command.output().expect("kiln runs")
    };
    let output = kiln(&["dev", "--local", "--once", "--output=json"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("a single user id"), "{text}");
    assert!(until(&page(&output), "Hello from Kiln").contains("Visit 1."));
    let listed = said(&kiln(&["ps", "--local"]));
    assert!(listed.contains("page-"), "{listed}");
    assert!(kiln(&["delete", "--local"]).status.success());
    assert!(!said(&kiln(&["ps", "--local"])).contains("page-"));
}
