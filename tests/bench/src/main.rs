//! `make bench`: measures Kiln's loop on a real cluster of its own, part by
//! part, beside a peer and the machine's own limit. It reports and never
//! judges: a slow machine misses targets, and the exit code stays 0. It is 1
//! when something could not be measured at all.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program"
)]

mod dev_loop;
mod error;
mod idle;
mod iteration;
mod local;
mod machine;
mod objects;
mod peers;
mod project;
mod raw;
mod report;
mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kiln_test_cluster::{Cluster, Environment, Layout, Network};
use serde_json::{Value, json};

use crate::error::{AtPath, Error, chain};
use crate::machine::Machine;
use crate::peers::{Programs, Quote};
use crate::project::{COPY_ONLY, Example, FEED_AGG, Project};
use crate::raw::Recipe;
use crate::report::{LoopResult, Peer};

/// Measures Kiln's loop on a real cluster of its own.
#[derive(Parser)]
#[command(name = "kiln-bench")]
struct Cli {
    /// The release binary to measure.
    #[arg(long, value_name = "FILE")]
    kiln: PathBuf,
    /// How often each thing is measured, after one warm-up.
    #[arg(long, env = "KILN_BENCH_RUNS", value_name = "N", default_value_t = 5,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// Only these cases [default: all].
    #[arg(long, env = "KILN_BENCH_CASES", value_enum, value_delimiter = ',')]
    cases: Vec<Case>,
    /// A skaffold binary, to run the peer instead of quoting it.
    #[arg(
        long,
        env = "KILN_BENCH_SKAFFOLD",
        value_name = "FILE",
        requires = "kaniko_image"
    )]
    skaffold: Option<PathBuf>,
    /// The peer's kaniko image: an archive of `docker save`, or a reference.
    #[arg(
        long,
        env = "KILN_BENCH_KANIKO_IMAGE",
        value_name = "IMAGE",
        requires = "skaffold"
    )]
    kaniko_image: Option<String>,
    /// Folder of the cluster that the bench starts and stops.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/kiln-bench-cluster"
    )]
    cluster_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// A Go service under `kiln dev`.
    FeedAgg,
    /// One COPY under `kiln dev`.
    CopyOnly,
    /// `kiln build` with nothing changed.
    Idle,
    /// The quickstart under `kiln dev --local`, without a cluster.
    Local,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kiln-bench: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool, Error> {
    // It is started in other folders than this one.
    let kiln = cli.kiln.canonicalize().at("find", &cli.kiln)?;
    let environment = Environment::of_process();
    let root = checkout();
    let machine = Machine::here(&kiln, &root);
    let stamp = jiff::Zoned::now().strftime("%Y-%m-%dT%H-%M-%S").to_string();
    let records = environment.cache_home.join("kiln/bench").join(stamp);
    let is_local = cli.cases.is_empty() || cli.cases.contains(&Case::Local);
    let local = is_local.then(|| measure_local(cli, &kiln, &root, &records));
    let needs_cluster = cli.cases.iter().any(|case| *case != Case::Local);
    if !cli.cases.is_empty() && !needs_cluster {
        println!("machine    {}", machine.hardware);
        println!("versions   {}", machine.versions.join("; "));
        return Ok(local.is_some_and(|local| show_local(local).is_some()));
    }
    // A cluster of its own: nobody else's pods are in the figures, and nothing
    // of it stays.
    let layout = Layout::new(&environment.cache_home, Some(cli.cluster_dir.clone()));
    let network = Network::Namespace("kiln-bench".to_owned());
    let cluster = Cluster::up(layout.clone(), &network, &mut |step| eprintln!("{step}"))?;
    let bench = Bench {
        cli,
        kiln,
        cluster,
        records,
        root,
        peer: None,
    };
    let outcome = bench.all(&machine, local);
    eprintln!("stopping the cluster");
    Cluster::down(&layout)?;
    outcome
}

/// The folder that holds `examples/`.
fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Before any cluster is there: it would be in the figures.
fn measure_local(
    cli: &Cli,
    kiln: &Path,
    root: &Path,
    records: &Path,
) -> Result<local::Local, Error> {
    eprintln!("measuring Local");
    local::measure(kiln, root, records, cli.runs)
}

/// Prints the local case; none when it could not be measured.
fn show_local(local: Result<local::Local, Error>) -> Option<Figures> {
    match local {
        Ok(local) => {
            println!("{}", local.table());
            Some((local.table(), local.json()))
        }
        Err(error) => {
            println!("Local could not be measured: {}\n", chain(&error));
            None
        }
    }
}

struct Bench<'a> {
    cli: &'a Cli,
    kiln: PathBuf,
    cluster: Cluster,
    records: PathBuf,
    root: PathBuf,
    peer: Option<Programs>,
}

/// A case as text and as data.
type Figures = (String, Value);

impl Bench<'_> {
    /// Measures and prints every case; false when one could not be measured.
    fn all(
        mut self,
        machine: &Machine,
        local: Option<Result<local::Local, Error>>,
    ) -> Result<bool, Error> {
        self.peer = self.prepare_peer()?;
        let mut text = self.head(machine);
        println!("{text}");
        let mut figures = Vec::new();
        let mut complete = true;
        for case in [Case::FeedAgg, Case::CopyOnly, Case::Idle] {
            if !self.cli.cases.is_empty() && !self.cli.cases.contains(&case) {
                continue;
            }
            let table = match self.case(case) {
                Ok((table, data)) => {
                    figures.push(data);
                    table
                }
                Err(error) => {
                    complete = false;
                    format!("{case:?} could not be measured: {}\n", chain(&error))
                }
            };
            println!("{table}");
            text.push_str(&table);
            text.push('\n');
        }
        if let Some(local) = local {
            match show_local(local) {
                Some((table, data)) => {
                    text.push_str(&table);
                    figures.push(data);
                }
                None => complete = false,
            }
        }
        let data = json!({
            "machine": machine.hardware, "versions": machine.versions,
            "doubt": machine.doubt, "cases": figures,
        });
        project::write(&self.records.join("report.txt"), &text)?;
        project::write(&self.records.join("report.json"), &format!("{data:#}\n"))?;
        Ok(complete)
    }

    fn prepare_peer(&self) -> Result<Option<Programs>, Error> {
        let (Some(skaffold), Some(kaniko)) = (&self.cli.skaffold, &self.cli.kaniko_image) else {
            return Ok(None);
        };
        let programs = Programs {
            skaffold: skaffold.clone(),
            kaniko: kaniko.clone(),
        };
        programs.prepare(&self.cluster)?;
        Ok(Some(programs))
    }

    /// What every reader of the tables has to know first.
    fn head(&self, machine: &Machine) -> String {
        let peer = match self.peer.as_ref().map(Programs::version) {
            Some(Ok(version)) => format!("measured: skaffold {version}"),
            Some(Err(error)) => format!("measured, version unknown: {error}"),
            None => "quoted from docs/peers.md; KILN_BENCH_SKAFFOLD and KILN_BENCH_KANIKO_IMAGE have it measured".to_owned(),
        };
        let doubt = machine
            .doubt
            .as_ref()
            .map(|doubt| format!("doubt      {doubt}\n"));
        format!(
            "machine    {}\nversions   {}\npeer       {peer}\n{}repeat     KILN_BENCH_RUNS={} make bench\nrecords    {}\n\n\
             A total runs from the edited file's mtime to the event DeployReady. Parts are what Kiln reports\n\
             of itself; they may overlap. One turn warms the caches and does not count.\n\n",
            machine.hardware,
            machine.versions.join("; "),
            doubt.unwrap_or_default(),
            self.cli.runs,
            self.records.display(),
        )
    }

    fn case(&self, case: Case) -> Result<Figures, Error> {
        eprintln!("measuring {case:?}");
        match case {
            Case::FeedAgg => {
                // The host's module cache is what the proxy in the cluster serves.
                self.prepare_feed_agg()?;
                self.one_loop(
                    FEED_AGG,
                    &raw::FEED_AGG,
                    Duration::from_secs(10),
                    "feed-agg",
                )
            }
            Case::CopyOnly => {
                objects::namespace(&self.cluster, COPY_ONLY.workload.namespace)?;
                self.one_loop(
                    COPY_ONLY,
                    &raw::COPY_ONLY,
                    Duration::from_millis(3500),
                    "copy-only",
                )
            }
            // Measured before there was a cluster.
            Case::Local => Err(Error::Loop("the local case needs no cluster".to_owned())),
            Case::Idle => {
                self.prepare_feed_agg()?;
                let project = self.project(FEED_AGG)?;
                // Short enough to be repeated more often.
                let runs = self.cli.runs * 4;
                let idle = idle::measure(&self.cluster, &self.kiln, &project, runs)?;
                let peer = Quote::of("idle").map(Peer::Quoted);
                Ok((
                    report::idle_table(&idle, peer.as_ref()),
                    report::idle_json(&idle),
                ))
            }
        }
    }

    fn prepare_feed_agg(&self) -> Result<(), Error> {
        kiln_test_cluster::download_modules(&self.root.join("examples/feed-agg"))?;
        self.cluster.module_proxy()?;
        objects::namespace(&self.cluster, "skaffold")?;
        objects::secret(&self.cluster, "skaffold", "kaniko-secret", "kaniko-secret")
    }

    fn one_loop(
        &self,
        example: Example,
        recipe: &Recipe,
        target: Duration,
        case: &str,
    ) -> Result<Figures, Error> {
        let runs = self.cli.runs;
        let limit = raw::measure(&self.cluster, &self.project(example)?, recipe, runs);
        let record = self.record(example, "jsonl")?;
        let project = self.project(example)?;
        let turns = dev_loop::measure(&self.cluster, &self.kiln, &project, runs, &record)?;
        let peer = match &self.peer {
            None => Ok(None),
            Some(programs) => {
                let record = self.record(example, "skaffold.log")?;
                programs
                    .measure(&self.cluster, &self.project(example)?, runs, &record)
                    .map(Some)
            }
        };
        let mut notes = String::new();
        for problem in [limit.as_ref().err(), peer.as_ref().err()]
            .into_iter()
            .flatten()
        {
            notes.push_str(&format!("  not measured: {}\n", chain(problem)));
        }
        let peer = peer.ok().flatten().map(Peer::Measured);
        let peer = peer.or_else(|| Quote::of(case).map(Peer::Quoted));
        let result = LoopResult {
            example,
            turns,
            target,
            peer,
            limit: limit.ok(),
        };
        let table = report::loop_table(&result).unwrap_or_default();
        Ok((table + &notes, report::loop_json(&result)))
    }

    fn project(&self, example: Example) -> Result<Project, Error> {
        Project::copy(&self.root.join("examples"), example)
    }

    fn record(&self, example: Example, suffix: &str) -> Result<PathBuf, Error> {
        let path = self.records.join(format!("{}.{suffix}", example.folder));
        project::write(&path, "")?;
        Ok(path)
    }
}
