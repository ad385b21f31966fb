//! `kiln-test-cluster up | down | status | env`: the test cluster from a shell.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kiln_test_cluster::{Cluster, Environment, Error, Layout, Network};

/// Starts a real single-node Kubernetes with registries and base images, for tests.
#[derive(Parser)]
#[command(name = "kiln-test-cluster")]
struct Cli {
    /// Folder of the cluster's files (default: /var/lib/kiln-test-cluster).
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is missing, start the cluster, print its variables.
    Up(Up),
    /// Stop the cluster and remove everything but its logs.
    Down,
    /// List the components and whether they run.
    Status,
    /// Print the variables of the running cluster for a shell to evaluate.
    Env,
    /// Make a port of the cluster's network reachable at 127.0.0.1, until killed.
    Open {
        /// The port, in there and here.
        port: u16,
    },
}

#[derive(Args)]
struct Up {
    /// Name of the network namespace that the cluster gets.
    #[arg(long, value_name = "NAME", default_value = "kiln-test")]
    netns: String,
    /// Use the machine's own network instead of a namespace.
    #[arg(long, conflicts_with = "netns")]
    host_net: bool,
    /// Start the Go module proxy in the cluster, too.
    #[arg(long)]
    module_proxy: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kiln-test-cluster: {error}");
            let mut next = std::error::Error::source(&error);
            while let Some(cause) = next {
                eprintln!("  because: {cause}");
                next = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Error> {
    let environment = Environment::of_process();
    let layout = Layout::new(&environment.cache_home, cli.dir.or(environment.run_dir));
    match cli.command {
        Command::Up(options) => up(layout, options),
        Command::Down => Cluster::down(&layout).map(|()| ExitCode::SUCCESS),
        Command::Status => status(&layout),
        Command::Env => running(layout, |cluster| {
            print_variables(cluster);
            Ok(())
        }),
        Command::Open { port } => running(layout, |cluster| cluster.open(port)),
    }
}

fn running(
    layout: Layout,
    work: impl FnOnce(&Cluster) -> Result<(), Error>,
) -> Result<ExitCode, Error> {
    match Cluster::find(layout)? {
        Some(cluster) => work(&cluster).map(|()| ExitCode::SUCCESS),
        None => {
            eprintln!("kiln-test-cluster: it is not running; start it with 'up'");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn up(layout: Layout, options: Up) -> Result<ExitCode, Error> {
    let network = if options.host_net {
        Network::Host
    } else {
        Network::Namespace(options.netns)
    };
    let cluster = Cluster::up(layout, &network, &mut |step| eprintln!("{step}"))?;
    if options.module_proxy {
        cluster.module_proxy()?;
    }
    print_variables(&cluster);
    Ok(ExitCode::SUCCESS)
}

fn status(layout: &Layout) -> Result<ExitCode, Error> {
    let components = Cluster::components(layout)?;
    for component in &components {
        let state = if component.running {
            "running"
        } else {
            "ended"
        };
        println!("{:20} {:8} {state}", component.name, component.pid);
    }
    let running = Cluster::find(layout.clone())?.is_some();
    println!("{}", if running { "running" } else { "not running" });
    Ok(if running {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_variables(cluster: &Cluster) {
    for (name, value) in cluster.variables() {
        println!("export {name}='{value}'");
    }
}
