//! `kiln-cases`: builds the cases on one rung and compares, or records what BuildKit makes.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kiln_cases::{Places, Pod, Rung, World};

/// Builds the cases of the executor and compares them with BuildKit's.
#[derive(Parser)]
#[command(name = "kiln-cases")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds with Kiln's executor and compares; fails when a case differs.
    Check {
        #[command(flatten)]
        places: PlacesArgs,
        /// Where commands run.
        #[arg(long, value_enum, default_value = "best")]
        rung: RungName,
    },
    /// Builds with BuildKit and writes expected.txt beside each Dockerfile.
    Record {
        #[command(flatten)]
        places: PlacesArgs,
        /// The folder with buildkitd, buildctl and runc.
        #[arg(long, value_name = "DIR")]
        oracle: PathBuf,
    },
}

#[derive(Args)]
struct PlacesArgs {
    /// The folder of the cases.
    #[arg(long, value_name = "DIR")]
    cases: PathBuf,
    /// A static busybox.
    #[arg(long, value_name = "FILE", default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// The executor under test.
    #[arg(long, value_name = "FILE", default_value = "/kaniko/executor")]
    executor: PathBuf,
    /// Only cases with this in their name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum RungName {
    /// What the executor finds best.
    Best,
    InPlace,
    /// In a directory of the store.
    Chroot,
    /// No RUN at all.
    None,
    /// No RUN at all, for a user other than root; started by root.
    OrdinaryUser,
    /// An ordinary user with ids of newuidmap; started by root.
    Rootless,
    /// An ordinary user with a single id; started by root.
    OneUser,
    /// The best in a pod that says nothing of security.
    PodDefault,
    /// The best in a pod with `hostUsers: false`.
    PodOwnUsers,
    /// The best in a pod with seccomp's RuntimeDefault.
    PodRuntimeDefault,
    /// The best in a pod with `runAsUser: 1000`.
    PodOrdinary,
    /// The best in a pod of the restricted profile.
    PodRestricted,
}

impl From<RungName> for Rung {
    fn from(name: RungName) -> Self {
        match name {
            RungName::Best => Self::Best,
            RungName::InPlace => Self::InPlace,
            RungName::Chroot => Self::Chroot,
            RungName::None => Self::None,
            RungName::OrdinaryUser => Self::OrdinaryUser,
            RungName::Rootless => Self::Rootless,
            RungName::OneUser => Self::OneUser,
            RungName::PodDefault => Self::In(Pod::Default),
            RungName::PodOwnUsers => Self::In(Pod::OwnUsers),
            RungName::PodRuntimeDefault => Self::In(Pod::RuntimeDefault),
            RungName::PodOrdinary => Self::In(Pod::Ordinary),
            RungName::PodRestricted => Self::In(Pod::Restricted),
        }
    }
}

impl PlacesArgs {
    fn world(self) -> std::io::Result<World> {
        World::new(Places {
            cases: self.cases,
            busybox: self.busybox,
            executor: self.executor,
            only: self.only,
        })
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kiln-cases: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> std::io::Result<ExitCode> {
    match command {
        Command::Record { places, oracle } => {
            kiln_cases::record(&oracle, &places.world()?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { places, rung } => {
            let report = places.world()?.compare(rung.into());
            for failure in &report.failures {
                println!("{failure}\n");
            }
            println!("{report}");
            let good = report.failures.is_empty() && report.same > 0;
            Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}
