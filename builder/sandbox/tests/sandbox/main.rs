//! Real steps on the machine at hand, in several kinds of pod.
//!
//! The binary re-executes itself as the sandbox, so it owns `main` instead of the test harness.
//! It runs every case of [`cases::EVERYWHERE`] and [`cases::NAMESPACED`] as it was started, then starts itself again as each of
//! [`pods::Pod`]: with a container's default capabilities, with the fewest that suffice, without
//! pivot_root, as an ordinary user. Arguments are substrings of case names, as with cargo's own.
//!
//! What the machine cannot do is reported as skipped, and is a failure when `KILN_REQUIRE_ALL=1`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test program talks to its terminal and reads its switches"
)]

#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod confined;
#[cfg(target_os = "linux")]
mod pods;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod suite;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    kiln_sandbox::init();
    suite::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
