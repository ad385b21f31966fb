//! The cases recorded from BuildKit: those of `tests/cases` on every rung that this machine allows
//! (and in pods, in `tests/it`), those of `tests/corners`, which nobody writes every day, on the
//! best.

use std::path::PathBuf;

use kiln_cases::{Places, Rung, World};

/// Everything that is needed, or `None` with a reason on standard error.
fn world(cases: &str) -> Option<World> {
    let places = Places {
        cases: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(cases),
        busybox: PathBuf::from("/bin/busybox"),
        executor: PathBuf::from(env!("CARGO_BIN_EXE_executor")),
        only: crate::world::variable("KILN_CASE").unwrap_or_default(),
    };
    match World::new(places) {
        Ok(world) => Some(world),
        Err(error) => {
            let why = format!("/bin/busybox cannot be read ({error}; Debian: busybox-static)");
            crate::world::skip(&why);
            None
        }
    }
}

fn compare(rung: Rung) {
    compare_those_of("tests/cases", rung);
}

#[expect(clippy::print_stderr, reason = "the count is what the test is run for")]
fn compare_those_of(cases: &str, rung: Rung) {
    let Some(world) = world(cases) else { return };
    let report = world.compare(rung);
    eprintln!("{report}");
    report.expect_good();
}

#[test]
fn cases_on_the_best_rung() {
    compare(Rung::Best);
}

#[test]
fn corners_on_the_best_rung() {
    compare_those_of("tests/corners", Rung::Best);
}

#[test]
fn cases_in_place() {
    if !rustix::process::geteuid().is_root() {
        crate::world::skip("not root");
        return;
    }
    compare(Rung::InPlace);
}

#[test]
fn cases_in_a_chroot() {
    if !rustix::process::geteuid().is_root() {
        crate::world::skip("not root");
        return;
    }
    compare(Rung::Chroot);
}

#[test]
fn cases_without_run() {
    compare(Rung::None);
}

/// Compares builds of an ordinary user, whom root starts.
fn compare_as_nobody(rung: Rung) {
    if !rustix::process::geteuid().is_root() {
        crate::world::skip("not root, who starts them as nobody");
        return;
    }
    if rung == Rung::Rootless && !std::path::Path::new("/usr/bin/newuidmap").exists() {
        crate::world::skip("newuidmap is not installed (Debian: uidmap)");
        return;
    }
    compare(rung);
}

#[test]
fn cases_as_an_ordinary_user() {
    compare_as_nobody(Rung::OrdinaryUser);
}

#[test]
fn cases_as_an_ordinary_user_with_subordinate_ids() {
    compare_as_nobody(Rung::Rootless);
}

#[test]
fn cases_as_an_ordinary_user_with_one_id() {
    compare_as_nobody(Rung::OneUser);
}
