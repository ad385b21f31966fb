//! Chooses the cases, runs them, says how they ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::bench::Bench;
use crate::pods::Pod;
use crate::{cases, processes};

/// How a case ended, short of a panic.
pub enum Outcome {
    /// As it should.
    Passed,
    /// This kind of pod is not one it is about.
    DoesNotApply(String),
}

/// Everything that the arguments ask for.
pub fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let pod = value_of(&arguments, "--pod=").map_or(Pod::AsStarted, Pod::from_name);
    if let Some(directory) = value_of(&arguments, "--victim=") {
        processes::be_the_victim(pod, directory.as_ref());
        return ExitCode::FAILURE;
    }
    let filters: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut failed = run_cases(pod, &filters);
    if pod == Pod::AsStarted {
        for pod in Pod::OTHERS {
            failed += pod
                .start(&filters)
                .unwrap_or_else(|why| skip(pod.name(), &why));
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        println!("{}: {failed} failed", pod.name());
        ExitCode::FAILURE
    }
}

fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    arguments
        .iter()
        .find_map(|argument| argument.strip_prefix(name))
}

fn run_cases(pod: Pod, filters: &[&str]) -> usize {
    if let Err(why) = pod.confine() {
        return skip(pod.name(), &why);
    }
    let bench = match Bench::new(pod) {
        Ok(bench) => bench,
        Err(why) => return skip(pod.name(), &why),
    };
    let namespaced = if pod == Pod::RuntimeDefault {
        &[]
    } else {
        cases::NAMESPACED
    };
    let mut failed = 0;
    for (name, case) in cases::EVERYWHERE.iter().chain(namespaced) {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        let label = format!("{}: {name}", pod.name());
        match catch_unwind(AssertUnwindSafe(|| case(&bench))) {
            Ok(Outcome::Passed) => println!("{label} ... ok"),
            Ok(Outcome::DoesNotApply(why)) => println!("{label} ... does not apply: {why}"),
            Err(_) => {
                println!("{label} ... FAILED");
                failed += 1;
            }
        }
    }
    failed
}

/// Says so, and counts as a failure where everything is required.
fn skip(label: &str, why: &str) -> usize {
    println!("{label} ... skipped: {why}");
    usize::from(std::env::var_os("KILN_REQUIRE_ALL").is_some_and(|value| value == "1"))
}
