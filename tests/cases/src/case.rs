//! One case: a folder with a `Dockerfile` and what belongs to it, laid out for a build.
//!
//! | file | meaning |
//! |---|---|
//! | `Dockerfile` | `files.test` in it is the address of the cases' own web server |
//! | `context/` | the context; that of the group where a case has none |
//! | `prepare` | a shell script, run in a copy of the context, for what git cannot keep |
//! | `args` | flags of the executor, one a line |
//! | `expected.txt` | recorded from BuildKit |
//! | `error` | where BuildKit fails, or Kiln refuses on purpose: phrases of Kiln's message |
//! | `instead.txt` | what Kiln makes where it differs on purpose (`docs/differences.md` says why) |
//!
//! Whatever else lies in the folder is copied beside the context (secrets, named contexts).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The time of all files of contexts: 2001-01-01T01:01:01Z.
const TIME: i64 = 978_310_861;

/// A case as it is checked in.
#[derive(Debug, Clone)]
pub struct Case {
    /// `group/name`
    pub name: String,
    pub dir: PathBuf,
}

/// A case, ready to be built.
#[derive(Debug)]
pub struct Prepared {
    /// Holds all files of the case; builds run in it.
    pub dir: PathBuf,
    /// Flags with their values.
    pub args: Vec<(String, String)>,
}

impl Case {
    /// All cases below a directory.
    pub fn all(root: &Path) -> Vec<Self> {
        let mut cases = Vec::new();
        for group in sorted(root) {
            for dir in sorted(&group) {
                if dir.join("Dockerfile").exists() {
                    let name = dir.strip_prefix(root).unwrap().display().to_string();
                    cases.push(Self { name, dir });
                }
            }
        }
        cases
    }

    pub fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.dir.join(file)).ok()
    }

    pub fn dockerfile(&self) -> String {
        self.read("Dockerfile").unwrap()
    }

    /// Lays the case out in `to`, with every address of the server in place; `None` where that
    /// takes rights that this user does not have.
    pub fn prepare(&self, to: &Path, server: &str, busybox: &Path) -> Option<Prepared> {
        copy(&self.dir, to);
        let context = to.join("context");
        if !context.exists() {
            let of_group = self.dir.parent().unwrap().join("context");
            if of_group.exists() {
                copy(&of_group, &context);
            } else {
                fs::create_dir(&context).unwrap();
            }
        }
        let dockerfile = self.dockerfile().replace("files.test", server);
        fs::write(to.join("Dockerfile"), dockerfile).unwrap();
        if self.dir.join("prepare").exists() {
            // Where there is nothing else, as in a pod, busybox is every command.
            let applets = to.join("applets");
            fs::create_dir(&applets).unwrap();
            let install = Command::new(busybox)
                .args(["--install", "-s"])
                .arg(&applets)
                .status();
            assert!(install.unwrap().success());
            let path = format!("/usr/bin:/bin:{}", applets.display());
            let status = Command::new(busybox)
                .args(["sh", "-e", "../prepare"])
                .env("PATH", path)
                .current_dir(&context)
                .status()
                .unwrap();
            // Archives name their maker.
            let of_root = self
                .read("prepare")
                .is_some_and(|text| text.contains("tar "));
            let may_fail = !rustix::process::geteuid().is_root();
            if may_fail && of_root {
                return None;
            }
            assert!(
                may_fail || status.success(),
                "{}: prepare failed",
                self.name
            );
            if !status.success() {
                return None;
            }
        }
        for dir in sorted(to).iter().filter(|dir| dir.is_dir()) {
            age(dir);
        }
        let args = self.read("args").unwrap_or_default();
        let args = args
            .lines()
            .filter(|line| line.starts_with("--"))
            .map(|line| {
                let (flag, value) = line.split_once(' ').unwrap_or((line, ""));
                (flag.to_owned(), value.replace("files.test", server))
            })
            .collect();
        Some(Prepared {
            dir: to.to_owned(),
            args,
        })
    }
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

/// Copies a directory with the modes that git keeps, and no others.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    for path in sorted(from) {
        let target = to.join(path.file_name().unwrap());
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            copy(&path, &target);
        } else if stat.is_symlink() {
            symlink(fs::read_link(&path).unwrap(), &target).unwrap();
        } else {
            fs::copy(&path, &target).unwrap();
            let mode = if stat.permissions().mode() & 0o100 == 0 {
                0o644
            } else {
                0o755
            };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Gives every file the same old time.
fn age(path: &Path) {
    let stat = fs::symlink_metadata(path).unwrap();
    if stat.is_dir() {
        sorted(path).iter().for_each(|path| age(path));
    }
    let time = rustix::fs::Timespec {
        tv_sec: TIME,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}
