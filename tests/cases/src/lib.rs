//! The build cases: folders with a Dockerfile and a context, and what BuildKit makes of them
//! (`record` writes that down). Kiln has to make the same on every rung that a machine or a pod
//! allows: the same configuration and history, and layers with the same entries.
//!
//! A harness: what it cannot do ends it with a panic that says what.

mod bases;
mod case;
mod files;
mod image;
mod kiln;
mod oracle;
mod rung;
mod server;
mod user;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;
use kiln::Outcome;
pub use oracle::record;
pub use rung::{Pod, Rung};
use server::{Answer, Server};

/// Where the parts of a run are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of the cases.
    pub cases: PathBuf,
    /// A static busybox, for the base images.
    pub busybox: PathBuf,
    /// The executor under test.
    pub executor: PathBuf,
    /// Only cases with this in their name; all, when it is empty.
    pub only: String,
}

/// What all cases share.
pub struct World {
    dir: tempfile::TempDir,
    server: Server,
    places: Places,
    /// The layers of the base images.
    of_bases: Vec<String>,
}

/// How the cases of one rung ended.
#[derive(Debug)]
pub struct Report {
    rung: Rung,
    /// As recorded.
    pub same: usize,
    /// The rung cannot, and the error said so.
    pub refused: usize,
    /// The lists in `rung.rs` name them.
    pub known: usize,
    /// Something else came out: the case and the difference.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.same + self.failures.len();
        write!(
            f,
            "{}: {} of {of} as BuildKit builds them, {} refused by name, {} known to differ",
            self.rung, self.same, self.refused, self.known
        )
    }
}

impl Report {
    /// Panics with the differences, if there are any, or when there was no case at all.
    pub fn expect_good(&self) {
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        assert!(self.same > 0, "no cases");
    }
}

impl World {
    /// Starts a registry with the base images.
    ///
    /// # Errors
    /// When busybox cannot be read, or the executor or the cases are not there.
    pub fn new(mut places: Places) -> io::Result<Self> {
        // Builds start in folders of their own.
        places.executor = places.executor.canonicalize()?;
        places.cases = places.cases.canonicalize()?;
        let program = fs::read(&places.busybox)?;
        let mut answers = bases::images(&program);
        let of_bases = diff_ids(&answers);
        answers.extend(files::files());
        let dir = tempfile::tempdir()?;
        // Cases of an ordinary user have directories of their own in it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            dir,
            server: Server::start(answers),
            places,
            of_bases,
        })
    }

    /// A text without what differs from run to run.
    fn neutral(&self, text: &str) -> String {
        text.replace(&self.server.address, "files.test")
    }

    /// Does something with every case, several at once, each in a directory of its own. Returns
    /// how many there were, and what went wrong.
    fn each(
        &self,
        threads: usize,
        work: impl Fn(&Case, &Path) -> Result<(), String> + Sync,
    ) -> (usize, Vec<String>) {
        let cases: Vec<Case> = Case::all(&self.places.cases)
            .into_iter()
            .filter(|case| case.name.contains(&self.places.only))
            .collect();
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
                        if let Err(why) = work(case, &dir.path().join("case")) {
                            failures
                                .lock()
                                .unwrap()
                                .push(format!("{}:\n{why}", case.name));
                        }
                    }
                });
            }
        });
        let mut failures = failures.into_inner().unwrap();
        failures.sort();
        (cases.len(), failures)
    }

    /// Builds every case on a rung.
    ///
    /// # Panics
    /// Where a rung would overwrite the `/` of anything but a container made for it.
    #[must_use]
    pub fn compare(&self, rung: Rung) -> Report {
        assert!(
            !rung.shares_root() || std::process::id() == 1,
            "{rung} is overwritten: only as the first process of a container"
        );
        rung.prepare(self);
        let refused = AtomicUsize::new(0);
        let threads = if rung.shares_root() { 1 } else { threads() };
        let (count, failures) = self.each(threads, |case, dir| {
            if rung.shares_root() {
                wipe(Path::new("/"));
            }
            match rung.check(case, dir, self) {
                Outcome::Same => Ok(()),
                Outcome::Refused => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Outcome::Differs(how) => Err(how),
            }
        });
        let (known, failures): (Vec<_>, Vec<_>) = failures.into_iter().partition(|failure| {
            let name = failure.split(':').next().unwrap_or_default();
            rung.is_known_to_differ(name)
        });
        let refused = refused.into_inner();
        Report {
            rung,
            same: count - known.len() - failures.len() - refused,
            refused,
            known: known.len(),
            failures,
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Takes away what the case before left in a container's `/`. What is mounted stays.
fn wipe(dir: &Path) {
    // Names of users are part of what tar writes in a case's preparation.
    const KEPT: [&str; 6] = [
        "/proc",
        "/sys",
        "/dev",
        "/kaniko",
        "/etc/passwd",
        "/etc/group",
    ];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if KEPT.iter().any(|kept| path == Path::new(kept)) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            wipe(&path);
            // One that holds a mount stays too.
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

fn diff_ids(answers: &BTreeMap<String, Answer>) -> Vec<String> {
    let mut found = Vec::new();
    for answer in answers.values() {
        let Ok(config) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
            continue;
        };
        let ids = config["rootfs"]["diff_ids"].as_array().cloned();
        found.extend(
            ids.unwrap_or_default()
                .iter()
                .filter_map(|id| Some(id.as_str()?.to_owned())),
        );
    }
    found
}
