//! From a container's manifest to a running process.

use std::error::Error;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container as Manifest, PodSpec, Probe};
use kiln_sandbox::container::{Confinement, Container, Entry, Output, Signals};
use kiln_sandbox::step::{Bind, Process, Root, Step, User};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use super::host::Host;
use super::logs::Log;
use super::pod::{Input, Task, chain};
use crate::desired::Image;
use crate::launch::{self, LaunchError};
use crate::network::resolv;
use crate::pod::{Event, Exit, ProbeKind};

/// A container of a pod by its number: init containers first.
pub(super) fn of(spec: &PodSpec, index: usize) -> &Manifest {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    init.get(index)
        .unwrap_or_else(|| &spec.containers[index - init.len()])
}

pub(super) fn probe(spec: &PodSpec, index: usize, kind: ProbeKind) -> Option<Probe> {
    let container = of(spec, index);
    match kind {
        ProbeKind::Startup => container.startup_probe.clone(),
        ProbeKind::Liveness => container.liveness_probe.clone(),
        ProbeKind::Readiness => container.readiness_probe.clone(),
    }
}

fn image<'a>(task: &'a Task, container: &Manifest) -> Result<&'a Image, LaunchError> {
    let name = container.image.as_deref().unwrap_or_default();
    let found = task.desired.images.get(name);
    found.ok_or_else(|| LaunchError::NoImage(name.to_owned()))
}

/// The signal that asks a container to end.
pub(super) fn stop_signal(task: &Task, index: usize) -> i32 {
    let signal = image(task, of(&task.spec, index)).ok();
    let signal = signal.and_then(|image| image.stop_signal.as_deref());
    signal.and_then(number_of).unwrap_or(15)
}

/// `SIGTERM`, `TERM` or a number (Dockerfile reference, STOPSIGNAL).
fn number_of(signal: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 8] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("WINCH", 28),
    ];
    let name = signal.strip_prefix("SIG").unwrap_or(signal);
    let named = NAMES.iter().find(|(known, _)| *known == name);
    named
        .map(|(_, number)| *number)
        .or_else(|| signal.parse().ok())
}

/// What a container's command is, and who runs it.
pub(super) fn process(task: &Task, index: usize) -> Result<(Process, Confinement), LaunchError> {
    let container = of(&task.spec, index);
    let image = image(task, container)?;
    let links = task.spec.enable_service_links != Some(false);
    let env = task.with_facts(|facts| launch::environment(container, image, links, facts))?;
    let identity = launch::identity(&task.spec, container, image)?;
    let mut process = Process::new(launch::command(container, image, &env)?);
    process.env = env
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let cwd = container.working_dir.clone().unwrap_or_default();
    process.cwd = [cwd.as_str(), &image.working_dir, "/"]
        .into_iter()
        .find(|path| !path.is_empty())
        .map(PathBuf::from)
        .unwrap_or_default();
    process.user = User {
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
    };
    let confinement = Confinement {
        network: None,
        capabilities: Some(identity.capabilities),
        read_only_root: identity.read_only_root,
        no_new_privileges: identity.no_new_privileges,
        stdin: None,
        terminal: false,
    };
    Ok((process, confinement))
}

/// The files by which a container finds the network, in the pod's folder.
pub(super) fn network_files(task: &Task) -> io::Result<()> {
    let folder = task.folder.own.join("etc");
    fs::create_dir_all(&folder)?;
    let name = hostname(task);
    let mut hosts = if task.on_host_network() {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        format!("127.0.0.1\tlocalhost\n{}\t{name}\n", task.ip)
    };
    for alias in task.spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.clone().unwrap_or_default().join(" ");
        hosts.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    fs::write(folder.join("hosts"), hosts)?;
    fs::write(folder.join("hostname"), format!("{name}\n"))?;
    let machine = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolv = resolv::of_pod(&task.spec, &task.name.namespace, &machine);
    fs::write(folder.join("resolv.conf"), resolv)
}

/// On the machine's network a pod has the machine's name, whatever it asks for, as the kubelet has
/// it.
fn hostname(task: &Task) -> String {
    if task.on_host_network() {
        let machine = rustix::system::uname();
        return machine.nodename().to_string_lossy().into_owned();
    }
    let name = task.spec.hostname.as_ref();
    name.unwrap_or(&task.name.name).clone()
}

/// Everything that it takes to start a container.
pub(super) struct Prepared {
    step: Step,
    confinement: Confinement,
}

/// Makes the folders of a container and reads its manifest.
pub(super) fn prepare(task: &Task, index: usize) -> Result<Prepared, Box<dyn Error>> {
    let container = of(&task.spec, index);
    let (process, mut confinement) = process(task, index)?;
    confinement.network = task
        .network
        .as_ref()
        .map(super::super::network::links::PodNetwork::path);
    let image = image(task, container)?;
    let folder = task.folder.own.join(format!("c{index}-{}", task.attempts));
    // The root of the attempt before is of no use any more.
    remove_earlier(&task.folder.own, index, task.attempts);
    let [upper, work, scratch] = ["upper", "work", "scratch"].map(|name| folder.join(name));
    for path in [&upper, &work, &scratch] {
        fs::create_dir_all(path)?;
    }
    let mut lowers = image.layers.clone();
    if lowers.is_empty() {
        let empty = folder.join("empty");
        fs::create_dir_all(&empty)?;
        lowers.push(empty);
    }
    make_working_folder(&lowers, &upper, &process.cwd)?;
    let mut step = Step::new(
        Root::Overlay {
            lowers,
            upper,
            work,
            scratch,
        },
        process,
    );
    step.hostname = Some(hostname(task));
    for name in ["hosts", "hostname", "resolv.conf"] {
        let source = task.folder.own.join("etc").join(name);
        step.binds
            .push(Bind::writable(source, Path::new("/etc").join(name)));
    }
    let termination = folder.join("termination-log");
    fs::write(&termination, "")?;
    let target = container.termination_message_path.as_deref();
    let target = target.unwrap_or("/dev/termination-log");
    step.binds.push(Bind::writable(termination, target));
    step.binds.extend(mounts(task, container, &step)?);
    Ok(Prepared { step, confinement })
}

fn mounts(task: &Task, container: &Manifest, step: &Step) -> Result<Vec<Bind>, Box<dyn Error>> {
    let env = step.process.env.iter();
    let env: Vec<(String, String)> = env
        .map(|(k, v)| {
            (
                k.to_string_lossy().into_owned(),
                v.to_string_lossy().into_owned(),
            )
        })
        .collect();
    let known = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut binds = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) => launch::expand(path, &known),
            (None, None) => String::new(),
        };
        let bind = task.with_facts(|facts| task.folder.bind(mount, &sub_path, &task.spec, facts));
        binds.push(bind?);
    }
    // A mount below another one has to come after it.
    binds.sort_by_key(|bind: &Bind| bind.target.components().count());
    Ok(binds)
}

fn remove_earlier(pod: &Path, index: usize, attempt: u32) {
    for entry in fs::read_dir(pod).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let own = name
            .strip_prefix(&format!("c{index}-"))
            .map(str::parse::<u32>);
        if matches!(own, Some(Ok(earlier)) if earlier < attempt) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// A working folder that no layer has is made, as container runtimes do.
fn make_working_folder(lowers: &[PathBuf], upper: &Path, cwd: &Path) -> io::Result<()> {
    let relative = cwd.strip_prefix("/").unwrap_or(cwd);
    let known = |layer: &PathBuf| layer.join(relative).symlink_metadata().is_ok();
    if lowers.iter().any(known) {
        return Ok(());
    }
    fs::create_dir_all(upper.join(relative))
}

/// Starts a prepared container. Its end and its output are taken care of by threads of its own.
pub(super) fn launch(
    prepared: Prepared,
    log: &Log,
    index: usize,
    (inputs, host): (mpsc::UnboundedSender<Input>, Option<Host>),
) -> Result<Signals, kiln_sandbox::Error> {
    let spawn = |error: rustix::io::Errno| kiln_sandbox::Error::Spawn(error.into());
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(spawn)?;
    let (err, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(spawn)?;
    let Prepared { step, confinement } = prepared;
    let start = move || Container::start(step, confinement, Output { stdout, stderr });
    let container = match host {
        None => start()?,
        Some(host) => on_host(&host, start)?,
    };
    let signals = container.signals();
    let readers = [log.collect(out, false), log.collect(err, true)];
    std::thread::spawn(move || {
        let running = inputs.clone();
        let result = container.wait(move |pid| drop(running.send(Input::Init(index, pid))));
        for reader in readers {
            // Its last lines come before the end is told.
            drop(reader.join());
        }
        let exit = match result {
            Ok(exit) => Exit {
                code: exit.code(),
                message: None,
            },
            Err(error) => Exit {
                code: 128,
                message: Some(chain(&error)),
            },
        };
        drop(inputs.send(Input::Event(Event::Ended(index, exit))));
    });
    Ok(signals)
}

/// In the machine's own network.
fn on_host(
    host: &Host,
    start: impl FnOnce() -> Result<Container, kiln_sandbox::Error> + Send + 'static,
) -> Result<Container, kiln_sandbox::Error> {
    let started = host.run(move || start().map_err(io::Error::other));
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| runtime.block_on(started)).map_err(kiln_sandbox::Error::Spawn)
}

/// A command in a running container, for probes, hooks and `exec`. `host` is there when the
/// container is on the machine's network.
pub(super) fn enter(
    entry: Entry,
    output: Output,
    host: Option<&Host>,
) -> Result<Container, kiln_sandbox::Error> {
    let start = move || Container::enter(&entry, output);
    match host {
        None => start(),
        Some(host) => on_host(host, start),
    }
}

/// A place for output that nobody reads.
pub(super) fn nowhere() -> io::Result<Output> {
    let open = || {
        fs::File::options()
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
    };
    Ok(Output {
        stdout: open()?,
        stderr: open()?,
    })
}
