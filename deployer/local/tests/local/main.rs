//! Workloads that really run, in a holder of their own for each case.

#![allow(
    clippy::print_stdout,
    clippy::needless_pass_by_value,
    reason = "a harness of its own says what ran; json! values are made where they are passed"
)]

#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod kinds;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod secure;
#[cfg(target_os = "linux")]
mod trouble;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    kiln_sandbox::init();
    kiln_local::node::init();
    if std::env::args().nth(1).as_deref() == Some(secure::SERVE) {
        secure::serve();
    }
    let cases = [
        cases::CASES,
        kinds::CASES,
        machine::CASES,
        names::CASES,
        network::CASES,
        secure::CASES,
        trouble::CASES,
    ];
    bench::run(&cases.concat())
}

#[cfg(not(target_os = "linux"))]
fn main() {}
