//! `cargo run --release --example repeat -- TIMES FOLDER` renders a
//! kustomization over and over in this process, and prints what each time
//! took, in nanoseconds, a line each. One time more comes first and does not
//! count.

use std::process::ExitCode;
use std::time::Instant;

use kiln_kustomize::{DiskFiles, Kustomizer};

fn main() -> ExitCode {
    use std::io::Write as _;
    let mut words = std::env::args().skip(1);
    let times = words.next().and_then(|word| word.parse::<usize>().ok());
    let (Some(times), Some(folder)) = (times, words.next()) else {
        drop(writeln!(std::io::stderr(), "usage: repeat TIMES FOLDER"));
        return ExitCode::from(2);
    };
    for time in 0..=times {
        let started = Instant::now();
        let result = Kustomizer::new(&DiskFiles).build(&folder);
        let took = started.elapsed();
        if let Err(refused) = result {
            drop(writeln!(std::io::stderr(), "{}", refused.error.chain()));
            return ExitCode::FAILURE;
        }
        if time > 0 && writeln!(std::io::stdout(), "{}", took.as_nanos()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
