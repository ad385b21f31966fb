//! The cases: folders with a Dockerfile and a context, and what BuildKit makes of them
//! (`tests/record` writes that down). Kiln has to make the same on every rung that the machine
//! allows: the same configuration and history, and layers with the same entries.

mod bases;
mod case;
mod image;
mod kiln;
mod oracle;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;
use kiln::{Outcome, Rung};
use server::{Answer, Server};

/// What all cases share.
pub struct World {
    dir: tempfile::TempDir,
    server: Server,
    busybox: PathBuf,
    executor: PathBuf,
    cases: PathBuf,
    /// The layers of the base images.
    of_bases: Vec<String>,
}

/// Paths that differ where the tests do not run from the source tree, as in a pod.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment where it runs"
)]
fn placed(variable: &str, otherwise: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(otherwise), PathBuf::from)
}

impl World {
    fn new() -> Option<Self> {
        let busybox = placed("KILN_BUSYBOX", "/bin/busybox");
        let Ok(program) = fs::read(&busybox) else {
            let why = "/bin/busybox is not there (Debian: busybox-static)";
            return super::world::skip(why).and(None);
        };
        let mut answers = bases::images(&program);
        let of_bases = diff_ids(&answers);
        answers.extend(files());
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
            server: Server::start(answers),
            busybox,
            executor: placed("KILN_EXECUTOR", env!("CARGO_BIN_EXE_executor")),
            cases: placed(
                "KILN_CASES",
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"),
            ),
            of_bases,
        })
    }

    /// A text without what differs from run to run.
    fn neutral(&self, text: &str) -> String {
        text.replace(&self.server.address, "files.test")
    }

    /// Does something with every case that `KILN_CASE` names (all without it), several at once,
    /// each in a directory of its own. Returns how many there were, and what went wrong.
    fn each(
        &self,
        work: impl Fn(&Case, &Path) -> Result<(), String> + Sync,
    ) -> (usize, Vec<String>) {
        let wanted = placed("KILN_CASE", "");
        let cases: Vec<Case> = Case::all(&self.cases)
            .into_iter()
            .filter(|case| case.name.contains(&*wanted.to_string_lossy()))
            .collect();
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
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
    #[expect(clippy::print_stderr, reason = "the count is what the test is run for")]
    fn compare(&self, rung: Rung) {
        let refused = AtomicUsize::new(0);
        let (count, failures) = self.each(|case, dir| match rung.check(case, dir, self) {
            Outcome::Same => Ok(()),
            Outcome::Refused => {
                refused.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Outcome::Differs(how) => Err(how),
        });
        let (known, failures): (Vec<_>, Vec<_>) = failures
            .into_iter()
            .partition(|failure| matches!(rung, Rung::InPlace) && is_known(failure));
        let refused = refused.into_inner();
        let count = count - known.len();
        let same = count - failures.len() - refused;
        eprintln!(
            "{rung:?}: {same} of {} as BuildKit builds them, {refused} refused by name, {} known to \
             differ",
            count - refused,
            known.len()
        );
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(count > 0, "no cases in {}", self.cases.display());
    }
}

/// Where commands run in the container's own `/`, these cases differ from BuildKit: defects that
/// are known, each to be mended and then to leave this list.
const DIFFERENT_IN_PLACE: [&str; 11] = [
    // Names of one file that change later are told from each other by their place alone.
    "bases/odd-hard-link-pair",
    "run/hard-link-broken-later",
    "run/hard-link-to-file-of-base",
    // Nothing says that a directory above a change was touched with it.
    "copy/chown-user-made-in-run",
    "run/append",
    "run/chmod-only",
    "run/chown-only",
    "run/touch-only",
    // What was below the directory is still looked for.
    "run/directory-becomes-file",
    // There are no mounts that would keep these out.
    "run/resolv-conf-stays-out",
    "run/writes-to-proc-and-sys-stay-out",
];

fn is_known(failure: &str) -> bool {
    let name = failure.split(':').next().unwrap_or_default();
    DIFFERENT_IN_PLACE.contains(&name)
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

/// What `ADD` can fetch.
fn files() -> BTreeMap<String, Answer> {
    let modified = "Mon, 03 Mar 2003 03:03:03 GMT";
    let plain = || Answer::body("hello\n");
    let mut files = BTreeMap::new();
    let mut put = |path: &str, answer: Answer| files.insert(format!("/files/{path}"), answer);
    put("hello.txt", plain().header("Last-Modified", modified));
    put("undated.txt", plain());
    put(
        "tagged.txt",
        plain()
            .header("ETag", "\"one\"")
            .header("Last-Modified", modified),
    );
    put(
        "disposition",
        plain().header("Content-Disposition", "attachment; filename=\"named.txt\""),
    );
    put(
        "moved",
        plain()
            .status("302 Found")
            .header("Location", "/files/hello.txt"),
    );
    put("directory/", plain().header("Last-Modified", modified));
    put("broken", plain().status("500 Internal Server Error"));
    put(
        "archive.tar.gz",
        Answer::body(archive()).header("Last-Modified", modified),
    );
    files
}

/// A small archive with owners and times of its own.
fn archive() -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, mode, body) in [
        ("packed/one", 0o640, "one\n"),
        ("packed/two", 0o755, "two\n"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(12);
        header.set_gid(13);
        header.set_mtime(bases::TIME);
        header.set_size(body.len() as u64);
        tar.append_data(&mut header, path, body.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
#[ignore = "needs buildkitd: tests/record runs it"]
fn record() {
    let world = World::new().expect("a busybox");
    oracle::record(&placed("KILN_ORACLE", "target/oracle"), &world);
}

#[test]
fn cases_on_the_best_rung() {
    let Some(world) = World::new() else { return };
    world.compare(Rung::Named("auto"));
}

#[test]
fn cases_in_place() {
    let Some(world) = World::new() else { return };
    if !rustix::process::geteuid().is_root() {
        super::world::skip("not root");
        return;
    }
    world.compare(Rung::InPlace);
}

#[test]
fn cases_without_run() {
    let Some(world) = World::new() else { return };
    world.compare(Rung::Named("none"));
}
