//! `make bench`: measures Kiln's loop on a real cluster of its own, part by
//! part, beside a peer and the machine's own limit, and its renderer beside
//! kustomize, for which no cluster is needed. It reports and never
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
mod kustomize;
mod local;
mod machine;
mod objects;
mod peers;
mod project;
mod raw;
mod record;
mod report;
mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kiln_test_cluster::{Cluster, Environment, Layout, Network};

use crate::error::{AtPath, Error, chain};
use crate::machine::Machine;
use crate::peers::{Programs, Quote};
use crate::project::{COPY_ONLY, Example, FEED_AGG, Project};
use crate::raw::Recipe;
use crate::record::{Figures, Record};
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
    /// The release build of the renderer's example `repeat`, to time the
    /// renderer inside of a process.
    #[arg(long, value_name = "FILE")]
    renderer: Option<PathBuf>,
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
    /// Overlays rendered by Kiln and by kustomize; needs no cluster.
    Kustomize,
    /// The quickstart under `kiln dev --local`; needs no cluster.
    Local,
}

impl Cli {
    fn asks_for(&self, case: Case) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }
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
    let layout = Layout::new(&environment.cache_home, Some(cli.cluster_dir.clone()));
    let mut record = Record::new(head(cli, &machine, &records));
    // Before there is a cluster whose own work would be in the figures.
    if cli.asks_for(Case::Kustomize) {
        record.add("Kustomize", render(cli, &kiln, &root, &layout));
    }
    if cli.asks_for(Case::Local) {
        eprintln!("measuring {:?}", Case::Local);
        let local = local::measure(&kiln, &root, &records, cli.runs);
        record.add("Local", local.map(|local| (local.table(), local.json())));
    }
    let loops: Vec<Case> = [Case::FeedAgg, Case::CopyOnly, Case::Idle]
        .into_iter()
        .filter(|case| cli.asks_for(*case))
        .collect();
    let outcome = if loops.is_empty() {
        Ok(())
    } else {
        // A cluster of its own: nobody else's pods are in the figures, and
        // nothing of it stays.
        let network = Network::Namespace("kiln-bench".to_owned());
        let cluster = Cluster::up(layout.clone(), &network, &mut |step| eprintln!("{step}"))?;
        let bench = Bench {
            cli,
            kiln,
            cluster,
            records: records.clone(),
            root,
            peer: None,
        };
        let outcome = bench.all(&loops, &mut record);
        eprintln!("stopping the cluster");
        Cluster::down(&layout)?;
        outcome
    };
    let complete = record.keep(&machine, &records)?;
    outcome.map(|()| complete)
}

/// Kiln's renderer beside the kustomize that the test cluster builds.
fn render(cli: &Cli, kiln: &Path, root: &Path, layout: &Layout) -> Result<Figures, Error> {
    eprintln!("measuring {:?}", Case::Kustomize);
    let report = &mut |step: &str| eprintln!("{step}");
    let programs = kustomize::Programs {
        kiln: kiln.to_owned(),
        repeat: cli.renderer.clone(),
        kustomize: kiln_test_cluster::program(layout, "kustomize", report)?,
    };
    let renderings = kustomize::measure(&programs, &root.join("examples"), cli.runs)?;
    let tables: Vec<String> = renderings.iter().map(report::rendering_table).collect();
    Ok((tables.join("\n"), report::rendering_json(&renderings)))
}

fn peer(cli: &Cli) -> Option<Programs> {
    Some(Programs {
        skaffold: cli.skaffold.clone()?,
        kaniko: cli.kaniko_image.clone()?,
    })
}

/// What every reader of the tables has to know first.
fn head(cli: &Cli, machine: &Machine, records: &Path) -> String {
    let peer = match peer(cli).as_ref().map(Programs::version) {
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
        cli.runs,
        records.display(),
    )
}

/// The folder that holds `examples/`.
fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

struct Bench<'a> {
    cli: &'a Cli,
    kiln: PathBuf,
    cluster: Cluster,
    records: PathBuf,
    root: PathBuf,
    peer: Option<Programs>,
}

impl Bench<'_> {
    /// Measures these cases on the cluster.
    fn all(mut self, cases: &[Case], record: &mut Record) -> Result<(), Error> {
        self.peer = peer(self.cli);
        if let Some(peer) = &self.peer {
            peer.prepare(&self.cluster)?;
        }
        for case in cases {
            record.add(&format!("{case:?}"), self.case(*case));
        }
        Ok(())
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
            Case::Kustomize | Case::Local => Err(Error::Loop("it needs no cluster".to_owned())),
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
