//! Records what BuildKit makes of the cases: run by `tests/cases/record`, which builds it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use crate::case::Prepared;
use crate::{World, image};

/// A running buildkitd with a state of its own.
pub struct BuildKit {
    daemon: Child,
    buildctl: PathBuf,
    /// Its socket, `unix:///…`.
    address: String,
}

impl Drop for BuildKit {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

impl BuildKit {
    /// Starts `buildkitd` from the directory `programs`. Images come from the cases' server.
    fn start(programs: &Path, world: &World) -> Self {
        let state = tempfile::tempdir_in(world.dir.path()).unwrap().keep();
        let (root, socket) = (state.join("root"), state.join("socket"));
        let mirror = &world.server.address;
        let config = format!(
            "root = {root:?}\ninsecure-entitlements = [\"network.host\"]\n[grpc]\naddress = [\"unix://{socket}\"]\n\
             [worker.oci]\nenabled = true\nnetworkMode = \"host\"\ngc = false\n\
             [worker.containerd]\nenabled = false\n\
             [registry.\"docker.io\"]\nmirrors = [\"{mirror}\"]\n\
             [registry.\"{mirror}\"]\nhttp = true\n",
            socket = socket.display(),
        );
        let file = state.join("buildkitd.toml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(state.join("log")).unwrap();
        let mut daemon = Command::new(programs.join("buildkitd"))
            .arg("--config")
            .arg(&file)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // The file is there before anybody listens.
        while UnixStream::connect(&socket).is_err() {
            let ended = daemon.try_wait().unwrap();
            let log = || fs::read_to_string(state.join("log")).unwrap();
            assert_eq!(ended, None, "{}", log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Self {
            daemon,
            buildctl: programs.join("buildctl"),
            address: format!("unix://{}", socket.display()),
        }
    }

    /// Builds a case and describes the result; a failure is one as well.
    pub fn build(&self, prepared: &Prepared, world: &World) -> String {
        let layout = prepared.dir.join("buildkit-layout");
        let mut command = Command::new(&self.buildctl);
        command
            .current_dir(&prepared.dir)
            .args(["--addr", &self.address, "build", "--progress=plain"])
            .arg("--allow=network.host")
            .args(["--frontend", "dockerfile.v0", "--local", "context=context"])
            .args(["--local", "dockerfile=."])
            .arg(format!(
                "--output=type=oci,tar=false,dest={}",
                layout.display()
            ));
        for (flag, value) in &prepared.args {
            translate(&mut command, flag, value);
        }
        let output = command.output().unwrap();
        if output.status.success() {
            return image::describe(&layout, &world.of_bases);
        }
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        failure(&log, &prepared.dir)
    }
}

/// Forgets all that was built: a context is otherwise sent as a difference to the one before, and
/// caches keep what another case left there.
fn forget(buildkit: &BuildKit) {
    let status = Command::new(&buildkit.buildctl)
        .args(["--addr", &buildkit.address, "prune", "--all"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "buildctl prune failed");
}

/// A flag of the executor in the words of buildctl.
fn translate(command: &mut Command, flag: &str, value: &str) {
    match flag {
        "--build-arg" => command.arg(format!("--opt=build-arg:{value}")),
        "--label" => command.arg(format!("--opt=label:{value}")),
        "--target" => command.arg(format!("--opt=target={value}")),
        "--custom-platform" => command.arg(format!("--opt=platform={value}")),
        "--secret" => command.args(["--secret", value]),
        "--ssh" => command.args(["--ssh", value]),
        "--build-context" => {
            let (name, place) = value.split_once('=').unwrap();
            if place.contains("://") {
                command.arg(format!("--opt=context:{name}={place}"))
            } else {
                command
                    .arg(format!("--opt=context:{name}=local:{name}"))
                    .arg(format!("--local={name}={place}"))
            }
        }
        other => panic!("no case can use {other} until it is translated here"),
    };
}

/// The last message of BuildKit, and the line of the Dockerfile that it points at.
fn failure(log: &str, dir: &Path) -> String {
    let mut text = String::from("fails\n");
    if let Some(line) = log.lines().find(|line| line.starts_with("Dockerfile:")) {
        text.push_str(&format!(
            "  line {}\n",
            line.trim_start_matches("Dockerfile:")
        ));
    }
    let message = log
        .lines()
        .rfind(|line| line.starts_with("error: "))
        .unwrap_or("error: unknown");
    let message = message
        .replace("error: failed to solve: ", "")
        .replace(&dir.display().to_string(), "");
    // References to snapshots differ each time.
    let message: Vec<&str> = message
        .split(' ')
        .filter(|word| !word.contains("::"))
        .collect();
    let message = message.join(" ");
    text.push_str(&format!("  says {message}\n"));
    text
}

/// Builds every case and writes what came out beside it. As many daemons as builds at once.
pub fn record(programs: &Path, world: &World) {
    let idle = Mutex::new(Vec::new());
    world.each(crate::threads(), |case, dir| {
        let waiting = idle.lock().unwrap().pop();
        let buildkit = waiting.unwrap_or_else(|| BuildKit::start(programs, world));
        let prepared = case
            .prepare(dir, &world.server.address, &world.places.busybox)
            .expect("root");
        let text = buildkit.build(&prepared, world);
        fs::write(case.dir.join("expected.txt"), world.neutral(&text)).unwrap();
        forget(&buildkit);
        idle.lock().unwrap().push(buildkit);
        Ok(())
    });
}
