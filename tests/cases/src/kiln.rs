//! Builds the cases with Kiln's executor on one rung of the privilege ladder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::case::{Case, Prepared};
use crate::rung::Rung;
use crate::user;
use crate::{World, image};

/// What came of one case.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The same as recorded.
    Same,
    /// This rung cannot, and the error says so.
    Refused,
    /// Something else.
    Differs(String),
}

/// A root for in-place builds: the machine's libraries, a few devices, the executor, and nothing
/// that an image could collide with.
const CONTAINER: &str = r#"
root=$1; shift
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir -p kaniko proc sys dev work store tmp usr lib lib64 etc
for dir in usr lib lib64; do [ ! -e /$dir ] || mount --rbind /$dir $dir; done
mount -t proc proc proc || mount --rbind /proc proc
mount --rbind /sys sys
for file in resolv.conf hosts hostname; do
  touch etc/$file
  [ ! -e /etc/$file ] || mount --bind /etc/$file etc/$file
done
# As a container runtime makes it: what a case leaves there is nobody else's.
mount -t tmpfs tmpfs dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/shm dev/pts
mount -t tmpfs tmpfs dev/shm
mount --bind /dev/pts dev/pts
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -s /proc/self/${link#*:} dev/${link%%:*}; done
mount --bind "$WORK" work
mount --bind "$STORE" store
touch kaniko/executor
mount --bind "$EXECUTOR" kaniko/executor
mkdir old
pivot_root . old
umount -l /old
rmdir /old
cd /work
exec /kaniko/executor "$@"
"#;

impl Rung {
    /// Builds a prepared case into an OCI layout.
    fn build(self, prepared: &Prepared, world: &World, store: &Path) -> Output {
        let layout = prepared.dir.join("layout");
        let executor = &self.executor(world);
        let mut command = if self == Self::InPlace {
            let root = prepared.dir.join("root");
            fs::create_dir(&root).unwrap();
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "--propagation=private", "/bin/sh", "-ec"])
                .args([CONTAINER, "sh"])
                .arg(&root)
                .env("WORK", &prepared.dir)
                .env("STORE", store)
                .env("EXECUTOR", executor)
                .arg("--store-dir=/store")
                .arg("--oci-layout-path=/work/layout");
            command
        } else {
            let mut command = match self.ids() {
                Some(ids) => user::command(executor, ids, &prepared.dir),
                None => Command::new(executor),
            };
            command.current_dir(&prepared.dir);
            command.arg(format!("--store-dir={}", store.display()));
            command.arg(format!("--oci-layout-path={}", layout.display()));
            command
        };
        if self.ids().is_some() {
            command.env("HOME", &prepared.dir);
        }
        let isolation = self.isolation();
        let mirror = &world.server.address;
        command
            .args(["-c", "context", "-f", "./Dockerfile", "--no-push"])
            .arg("--image-format=oci")
            .arg(format!("--isolation={isolation}"))
            .arg(format!("--registry-mirror={mirror}"))
            .arg(format!("--insecure-registry={mirror}"))
            .args(["--insecure-pull", "--skip-default-registry-fallback"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for (flag, value) in &prepared.args {
            command.arg(flag);
            if !value.is_empty() {
                command.arg(value);
            }
        }
        command.output().unwrap()
    }

    /// Builds a case and compares.
    pub fn check(self, case: &Case, dir: &Path, world: &World) -> Outcome {
        let Some(prepared) = case.prepare(dir, &world.server.address, &world.places.busybox) else {
            return Outcome::Refused;
        };
        let store = self.store(world, dir);
        if self.ids().is_some() {
            fs::set_permissions(dir.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
            user::give(&prepared.dir);
        }
        let output = self.build(&prepared, world, &store);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let Some(expected) = case.read("expected.txt") else {
            return Outcome::Differs("not recorded".to_owned());
        };
        if !output.status.success() && self.may_refuse(&case.dockerfile(), &log) {
            return Outcome::Refused;
        }
        // Where BuildKit fails, or Kiln refuses on purpose what BuildKit builds.
        if let Some(wanted) = case.read("error") {
            return failure((&expected, &wanted), output.status.success(), &log);
        }
        let meant = case.read("instead.txt").unwrap_or(expected);
        if meant.starts_with("fails") {
            return Outcome::Differs(format!("BuildKit fails; the case has no `error`:\n{log}"));
        }
        if !output.status.success() {
            return Outcome::Differs(log);
        }
        let found = world.neutral(&image::describe(&dir.join("layout"), &world.of_bases));
        if found == meant {
            Outcome::Same
        } else {
            Outcome::Differs(difference(&meant, &found))
        }
    }

    /// What has to be there before the first case.
    pub fn prepare(self, world: &World) {
        if self.ids().is_some() {
            user::give(&self.store(world, Path::new("")));
            fs::copy(&world.places.executor, self.executor(world)).unwrap();
        }
    }

    /// The executor; a copy for the ordinary user, who may not look into everybody's folders.
    fn executor(self, world: &World) -> PathBuf {
        match self.ids() {
            Some(_) => world.dir.path().join("executor-of-nobody"),
            None => world.places.executor.clone(),
        }
    }

    /// Builds share a store, except in place, where each has a machine of its own.
    fn store(self, world: &World, dir: &Path) -> PathBuf {
        let store = match self {
            Self::InPlace => dir.join("store"),
            _ if self.ids().is_some() => world.dir.path().join("store-of-nobody"),
            _ => world.dir.path().join(format!("store-{}", self.isolation())),
        };
        fs::create_dir_all(&store).unwrap();
        store
    }
}

/// Whether Kiln fails, points at the line that BuildKit points at, and says what the case wants.
fn failure((expected, wanted): (&str, &str), succeeded: bool, log: &str) -> Outcome {
    if succeeded {
        return Outcome::Differs("was built, and has to be refused".to_owned());
    }
    let line = expected
        .lines()
        .find_map(|line| line.strip_prefix("  line "));
    // A case may know the place better.
    if let Some(line) = line.filter(|_| !wanted.contains("Dockerfile:"))
        && !log.contains(&format!("Dockerfile:{line}:"))
    {
        return Outcome::Differs(format!("does not point at line {line}:\n{log}"));
    }
    match wanted.lines().find(|phrase| !log.contains(phrase)) {
        Some(phrase) => Outcome::Differs(format!("does not say {phrase:?}:\n{log}")),
        None => Outcome::Same,
    }
}

/// Lines that only one of two texts has, in order.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let start = expected
        .iter()
        .zip(&found)
        .take_while(|(a, b)| a == b)
        .count();
    let end = expected[start..]
        .iter()
        .rev()
        .zip(found[start..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let part = |mark: char, lines: &[&str]| -> String {
        lines[start..lines.len() - end]
            .iter()
            .map(|line| format!("{mark} {line}\n"))
            .collect()
    };
    part('-', &expected) + &part('+', &found)
}
