//! A tiny root filesystem with busybox, and steps in it.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_sandbox::upper::{self, Change, Kind};
use kiln_sandbox::{Cancel, Error, Exit, Process, Root, Rootfs, Rung, Step, Stream, run};
use tempfile::TempDir;

use crate::pods::Pod;

const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

const APPLETS: [&str; 24] = [
    "cat", "chmod", "chown", "echo", "env", "false", "head", "hostname", "id", "ip", "kill", "ln",
    "ls", "mkdir", "mount", "mv", "pwd", "rm", "sh", "sleep", "stat", "touch", "true", "umount",
];

/// A place for roots and uppers.
pub struct Bench {
    pub pod: Pod,
    place: TempDir,
    next: Cell<u32>,
}

/// What a step said.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Bench {
    pub fn new(pod: Pod) -> Result<Self, String> {
        let busybox = BUSYBOX
            .iter()
            .find(|path| Path::new(path).exists())
            .ok_or("a static busybox is not installed (Debian: busybox-static)")?;
        let place = tempfile::tempdir().map_err(|error| error.to_string())?;
        // Others than its owner have to get through to the roots in it.
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        let bench = Self {
            pod,
            place,
            next: Cell::new(0),
        };
        bench
            .make_base(busybox)
            .map_err(|error| error.to_string())?;
        Ok(bench)
    }

    fn make_base(&self, busybox: &str) -> Result<(), Box<dyn std::error::Error>> {
        fs::create_dir(self.base())?;
        fs::set_permissions(self.base(), fs::Permissions::from_mode(0o755))?;
        let root = Rootfs::open(&self.base())?;
        for directory in ["/bin", "/etc", "/data/sub", "/run", "/var", "/work"] {
            root.create_directories(Path::new(directory), 0o755)?;
        }
        root.create_directories(Path::new("/tmp"), 0o1777)?;
        let mut file = root.create_file(Path::new("/bin/busybox"), 0o755)?;
        std::io::copy(&mut fs::File::open(busybox)?, &mut file)?;
        for applet in APPLETS {
            root.symlink(Path::new("busybox"), &Path::new("/bin").join(applet))?;
        }
        root.symlink(Path::new("/run"), Path::new("/var/run"))?;
        root.symlink(
            Path::new("../run/resolve/stub.conf"),
            Path::new("/etc/resolv.conf"),
        )?;
        root.create_file(Path::new("/etc/issue"), 0o644)?
            .write_all(b"from the base\n")?;
        root.create_file(Path::new("/data/sub/file"), 0o644)?;
        Ok(())
    }

    /// The lowest layer.
    pub fn base(&self) -> PathBuf {
        self.place.path().join("base")
    }

    /// A fresh directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        let number = self.next.get();
        self.next.set(number + 1);
        let path = self.place.path().join(format!("{name}-{number}"));
        fs::create_dir(&path).expect("create a directory");
        path
    }

    /// An overlay on the given layers, topmost first, with a fresh upper.
    pub fn overlay_on(&self, lowers: Vec<PathBuf>) -> Root {
        Root::Overlay {
            lowers,
            upper: self.directory("upper"),
            work: self.directory("work"),
            scratch: self.directory("scratch"),
        }
    }

    /// A step on the base that runs a program, with the usual `PATH`.
    pub fn step(&self, argv: &[&str]) -> Step {
        let mut process = Process::new(argv);
        process.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        Step::new(self.overlay_on(vec![self.base()]), process)
    }

    /// A step on the base that runs a shell script.
    pub fn script(&self, script: &str) -> Step {
        self.step(&["sh", "-c", script])
    }

    pub fn try_run(&self, step: &Step) -> Result<Said, Error> {
        run_on(self.pod.rung(), step)
    }

    /// Runs a step that has to succeed; what it wrote to standard output.
    pub fn run(&self, step: &Step) -> String {
        let said = self.try_run(step).expect("the step runs");
        assert_eq!(said.exit, Exit::Code(0), "{said:?}");
        said.stdout
    }
}

pub fn run_on(rung: Rung, step: &Step) -> Result<Said, Error> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let cancel = Cancel::new().expect("eventfd");
    let exit = run(rung, step, &cancel, &mut |stream, bytes| match stream {
        Stream::Stdout => stdout.extend_from_slice(bytes),
        Stream::Stderr => stderr.extend_from_slice(bytes),
    })?;
    Ok(Said {
        exit,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// What a step left in its upper directory.
pub fn upper_of(step: &Step) -> PathBuf {
    match &step.root {
        Root::Overlay { upper, .. } => upper.clone(),
        Root::Directory(_) | Root::InPlace => panic!("not an overlay"),
    }
}

pub fn changes(step: &Step) -> Vec<Change> {
    upper::changes(&upper_of(step)).expect("read the upper directory")
}

/// The changed paths and what they have become.
pub fn kinds(step: &Step) -> Vec<(String, Kind)> {
    changes(step)
        .into_iter()
        .map(|change| (change.path.display().to_string(), change.kind))
        .collect()
}

pub fn entry(path: &str, kind: Kind) -> (String, Kind) {
    (path.to_owned(), kind)
}

pub const MERGED: Kind = Kind::Directory { opaque: false };
