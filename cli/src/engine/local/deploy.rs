//! A deploy to this machine: manifests and images go to the holder, and it is
//! waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kiln_builder::hooks::When;
use kiln_deployer::apply::Prune;
use kiln_local::client::{ClientError, Found, Holder};
use kiln_local::desired::{Desired, Forward, Image, Name, Protocol, Target};
use kiln_local::manifest::{self, Reading};
use kiln_local::pod::Status;
use kiln_local::protocol::{Answer, Applied, Change, Listening, PodView, WorkloadState, World};
use kiln_schemas::event::{Change as Changed, Event, Failure, ObjectName, Phase, Readiness};
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{self, ForwardPort};
use tokio_util::sync::CancellationToken;

use super::super::Engine;
use super::super::deploy::millis;
use super::Local;
use crate::args::PortForward;

/// Restarts after which a container is taken to fail again and again.
const CRASHES: u32 = 2;

fn failure(error: impl std::error::Error + 'static) -> Failure {
    Failure::from_error(&error)
}

impl Engine {
    /// Renders, hands over, and waits until everything is ready.
    pub(in crate::engine) async fn deploy_here(
        &self,
        local: &Local,
        images: &[BuiltImage],
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let set = self.render_all(images, None).await?;
        let mut objects = Vec::new();
        let mut namespace = "default".to_owned();
        for (module, rendered) in &set {
            self.deploy_hooks(module, When::Before).await?;
            if let Some(template) = &module.deploy.default_namespace {
                namespace = self.expand(template).map_err(Failure::new)?;
            }
            objects.extend(rendered.objects.iter().map(|object| object.value().clone()));
        }
        let namespace = self.choices.namespace.clone().unwrap_or(namespace);
        let started = Instant::now();
        let reading = manifest::read(&objects, &namespace).map_err(failure)?;
        self.say_limits(&reading)?;
        let mut desired = reading.desired;
        desired.images = self.images_here(local, &desired).await?;
        let store = local.store().map_err(failure)?;
        desired.store = Some(store.root().to_owned());
        desired.egress = self.env.find_program("pasta");
        let has_egress = desired.egress.is_some();
        desired.forwards = self.forwards_here(&desired, &namespace)?;
        let found = start(&local.holder).await?;
        if found == Found::Started {
            self.say_start(has_egress);
        }
        let follows = self.choices.tail;
        if follows {
            self.follow_here(local, images);
        }
        let applied = local.holder.apply(desired).await.map_err(failure)?;
        self.took("deploy", Phase::Apply, started.elapsed());
        self.say_applied(&applied);
        self.say_forwards(&applied.forwards)?;
        let wait = self.wait_here(local, &applied, started);
        let waited = cancel.run_until_cancelled(wait).await;
        waited.unwrap_or_else(|| Err(Failure::new("cancelled")))?;
        for (module, _) in &set {
            self.deploy_hooks(module, When::After).await?;
        }
        Ok(())
    }

    /// Notes once what has no meaning here; what cannot be done stops the deploy.
    fn say_limits(&self, reading: &Reading) -> Result<(), Failure> {
        for note in &reading.notes {
            self.say_once(Event::Note {
                message: note.clone(),
            });
        }
        if reading.unsupported.is_empty() {
            return Ok(());
        }
        if self.choices.skip_unsupported {
            for line in &reading.unsupported {
                self.say_once(Event::Warning {
                    message: format!("not done on this machine: {line}"),
                    hint: None,
                });
            }
            return Ok(());
        }
        let mut failure = Failure::new("the manifests ask for what cannot be done on this machine");
        failure.causes.clone_from(&reading.unsupported);
        Err(failure
            .hint("deploy the rest without it: --skip-unsupported")
            .hint(
                "or leave it out in an overlay for this machine, or use a cluster: --kube-context",
            ))
    }

    fn say_start(&self, has_egress: bool) {
        if let Some(note) = Holder::id_note() {
            self.say_once(Event::Warning {
                message: note,
                hint: None,
            });
        }
        let message = match has_egress {
            true => "pods reach each other, and the outside through pasta",
            false => {
                "pods reach each other and this machine's name servers, but not the outside: install pasta (package passt), or give a pod hostNetwork"
            }
        };
        self.say_once(Event::Note {
            message: message.to_owned(),
        });
    }

    /// The images of all containers: built ones are in the store, others are pulled into it.
    async fn images_here(
        &self,
        local: &Local,
        desired: &Desired,
    ) -> Result<BTreeMap<String, Image>, Failure> {
        let mut images = BTreeMap::new();
        for name in image_names(desired) {
            let reference = name
                .split_once('@')
                .map_or(name.as_str(), |(tagged, _)| tagged);
            let image = match local.kept(reference).or_else(|| local.kept(&name)) {
                Some(kept) => kept.image,
                None => self.pull_here(local, &name).await?,
            };
            images.insert(name, image);
        }
        Ok(images)
    }

    async fn pull_here(&self, local: &Local, name: &str) -> Result<Image, Failure> {
        let message = format!("pulling {name}");
        self.events.emit(Event::Note { message });
        let store = local.store().map_err(failure)?;
        let (registry, image) = (self.registry.clone(), name.to_owned());
        let pulled = tokio::task::spawn_blocking(move || {
            let remote = kiln_executor::remote::Remote::new(registry).map_err(failure)?;
            let platform = kiln_registry::Platform::host();
            let platform = format!("linux/{}", platform.architecture);
            kiln_executor::unpacked::pull_unpacked(&image, &platform, &store, &remote)
                .map_err(failure)
        });
        let unpacked = pulled.await.map_err(failure)??;
        local.keep(name, None, &unpacked)
    }

    /// Every port of every service, and what the user names.
    fn forwards_here(&self, desired: &Desired, namespace: &str) -> Result<Vec<Forward>, Failure> {
        let mut forwards = Vec::new();
        if self.choices.forward.contains(&PortForward::Off) {
            return Ok(forwards);
        }
        for module in &self.project.modules {
            for forward in &module.forward {
                forwards.push(self.user_forward(forward, namespace)?);
            }
        }
        for service in &desired.services {
            for port in service
                .ports
                .iter()
                .filter(|port| port.protocol == Protocol::Tcp)
            {
                let target = Target::Number(port.port);
                let named = |forward: &Forward| {
                    let same_port = forward.port == target
                        || matches!(&forward.port, Target::Name(name) if Some(name) == port.name.as_ref());
                    forward.kind == "service" && forward.name == service.name && same_port
                };
                if !service.headless && !forwards.iter().any(named) {
                    forwards.push(Forward {
                        kind: "service".to_owned(),
                        name: service.name.clone(),
                        port: target.clone(),
                        address: "127.0.0.1".to_owned(),
                        local_port: None,
                    });
                }
            }
        }
        Ok(forwards)
    }

    fn user_forward(&self, forward: &model::Forward, namespace: &str) -> Result<Forward, Failure> {
        let namespace = match &forward.namespace {
            Some(template) => self.expand(template).map_err(Failure::new)?,
            None => namespace.to_owned(),
        };
        let name = self.expand(&forward.resource_name).map_err(Failure::new)?;
        Ok(Forward {
            kind: forward.resource_type.clone(),
            name: Name::new(namespace, name),
            port: match &forward.port {
                ForwardPort::Number(number) => Target::Number(*number),
                ForwardPort::Name(name) => Target::Name(name.clone()),
            },
            address: forward.address.clone(),
            local_port: forward.local_port,
        })
    }

    fn say_applied(&self, applied: &Applied) {
        for (kind, name, change) in &applied.changes {
            self.events.emit(Event::Applied {
                object: object(kind, name),
                change: match change {
                    Change::Created => Changed::Created,
                    Change::Configured => Changed::Configured,
                    Change::Unchanged => Changed::Unchanged,
                    Change::Removed => Changed::Pruned,
                },
            });
        }
    }

    /// Each port once; one that could not be had is an error where the user named it.
    fn say_forwards(&self, forwards: &[Listening]) -> Result<(), Failure> {
        for forward in forwards {
            let resource = format!("{}/{}", forward.kind.to_lowercase(), forward.name.name);
            match &forward.local {
                Ok(local) => self.say_once(Event::Forwarding {
                    resource,
                    local: local.clone(),
                    remote: forward.port.parse().unwrap_or_default(),
                }),
                Err(why) => {
                    return Err(Failure::new(format!("{resource} cannot be reached: {why}"))
                        .hint("free the port, or name another one under `forward`"));
                }
            }
        }
        Ok(())
    }

    /// Until every workload is ready, one fails beyond repair, or time is up.
    async fn wait_here(
        &self,
        local: &Local,
        applied: &Applied,
        started: Instant,
    ) -> Result<(), Failure> {
        let check = self
            .project
            .modules
            .first()
            .map(|module| module.deploy.status);
        let Some(check) = check.filter(|c| self.choices.status_check.unwrap_or(c.enabled)) else {
            return Ok(());
        };
        let tolerates = self
            .choices
            .tolerate_failures
            .unwrap_or(check.tolerate_failures);
        let rollout = Instant::now();
        let mut said: BTreeMap<String, String> = BTreeMap::new();
        let mut latest = World::default();
        let wait = async {
            let mut answers = local.holder.watch().await.map_err(failure)?;
            while let Some(Answer::World(world)) = answers.next().await.map_err(failure)? {
                if world.generation < applied.generation {
                    continue;
                }
                self.say_states(&world, &mut said);
                self.say_unreachable(local, &world);
                if let Some(found) = trouble(&world).filter(|_| !tolerates) {
                    return Err(self.explain(local, &world, found).await);
                }
                self.say_remarks(&world);
                if world
                    .workloads
                    .iter()
                    .all(|w| w.state == WorkloadState::Ready)
                {
                    return Ok(world.workloads.len());
                }
                latest = world;
            }
            Err(Failure::new("the holder of the workloads ended"))
        };
        let Ok(result) = tokio::time::timeout(check.deadline, wait).await else {
            return Err(late(&latest, check.deadline));
        };
        let objects = result?;
        self.took("deploy", Phase::Rollout, rollout.elapsed());
        self.events.emit(Event::DeployReady {
            objects,
            ms: millis(started.elapsed()),
        });
        Ok(())
    }

    fn say_states(&self, world: &World, said: &mut BTreeMap<String, String>) {
        for workload in &world.workloads {
            let key = format!("{} {}", workload.kind, workload.name);
            if said.get(&key) == Some(&workload.message) {
                continue;
            }
            said.insert(key, workload.message.clone());
            self.events.emit(Event::Status {
                object: object(&workload.kind, &workload.name),
                readiness: match workload.state {
                    WorkloadState::InProgress => Readiness::InProgress,
                    WorkloadState::Ready => Readiness::Ready,
                    WorkloadState::Failed => Readiness::Failed,
                },
                message: workload.message.clone(),
            });
        }
    }

    /// Pasta is there and does not work.
    fn say_unreachable(&self, local: &Local, world: &World) {
        let is_it = |remark: &String| remark.contains(kiln_local::protocol::NO_EGRESS);
        if world.remarks.iter().any(is_it) {
            let log = local.holder.state().join("node.log");
            self.say_once(Event::Warning {
                message: "pods do not reach the outside: pasta did not start".to_owned(),
                hint: Some(format!("{} says why", log.display())),
            });
        }
    }

    /// What pods that are there have met: probes that fail, hooks, ports that cannot be had.
    fn say_remarks(&self, world: &World) {
        let pods = world.pods.iter().filter(|pod| !pod.stopping);
        let starts: Vec<String> = pods.map(|pod| format!("{}: ", pod.name.name)).collect();
        for remark in &world.remarks {
            // That has words of its own.
            let is_other = remark.contains(kiln_local::protocol::NO_EGRESS);
            if !is_other && starts.iter().any(|start| remark.starts_with(start)) {
                self.say_once(Event::Warning {
                    message: remark.clone(),
                    hint: None,
                });
            }
        }
    }

    async fn explain(&self, local: &Local, world: &World, (pod, why): (Name, String)) -> Failure {
        let mut failure = Failure::new(why);
        let own = world.remarks.iter().rev();
        let own = own.filter_map(|line| line.strip_prefix(&format!("{}: ", pod.name)));
        failure.causes.extend(own.take(1).map(str::to_owned));
        failure.log = super::follow::last_lines(&local.holder, &pod.name).await;
        failure
    }

    /// Deletes what runs; claims only where everything is to go.
    pub(in crate::engine) async fn delete_here(
        &self,
        local: &Local,
        reach: Prune,
    ) -> Result<(), Failure> {
        let objects = local.deployed().await?;
        local.holder.leave().await.map_err(failure)?;
        for object in objects {
            self.events.emit(Event::Applied {
                object,
                change: Changed::Deleted,
            });
        }
        if matches!(reach, Prune::Everything) {
            let claims = local.holder.state().join("claims");
            match std::fs::remove_dir_all(&claims) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failure(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Local {
    /// What runs.
    pub(in crate::engine) async fn deployed(&self) -> Result<Vec<ObjectName>, Failure> {
        if !self.holder.is_running() {
            return Ok(Vec::new());
        }
        let world = self.holder.world().await.map_err(failure)?;
        let workloads = world.workloads.iter();
        Ok(workloads.map(|w| object(&w.kind, &w.name)).collect())
    }
}

/// The references of all containers.
fn image_names(desired: &Desired) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for spec in desired
        .workloads
        .iter()
        .filter_map(|w| w.template.spec.as_ref())
    {
        let init = spec.init_containers.iter().flatten();
        names.extend(init.chain(&spec.containers).filter_map(|c| c.image.clone()));
    }
    names
}

fn object(kind: &str, name: &Name) -> ObjectName {
    ObjectName {
        kind: kind.to_owned(),
        namespace: Some(name.namespace.clone()),
        name: name.name.clone(),
    }
}

async fn start(holder: &Holder) -> Result<Found, Failure> {
    let holder = holder.clone();
    let started = tokio::task::spawn_blocking(move || holder.start());
    started.await.map_err(failure)?.map_err(|error| {
        let hint = match &error {
            ClientError::Namespaces(_) => Some(
                "workloads need user namespaces: sysctl user.max_user_namespaces, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0; in a chroot there are none",
            ),
            _ => None,
        };
        let mut failure = failure(error);
        failure.hints.extend(hint.map(str::to_owned));
        failure
    })
}

/// A pod that will not get ready by itself, and why.
fn trouble(world: &World) -> Option<(Name, String)> {
    let failed = world
        .workloads
        .iter()
        .find(|w| w.state == WorkloadState::Failed);
    let is_current = |pod: &&PodView| !pod.stopping;
    for pod in world.pods.iter().filter(is_current) {
        for container in &pod.containers {
            let exit = match &container.status {
                Status::BackOff(exit) if container.restarts >= CRASHES => exit,
                Status::Ended(exit) if exit.code != 0 && failed.is_some() => exit,
                // What cannot be started now cannot be started later.
                Status::BackOff(exit) | Status::Ended(exit) if exit.message.is_some() => exit,
                _ => continue,
            };
            let name = format!("{} of pod {}", container.name, pod.name.name);
            let why = match &exit.message {
                Some(message) => format!("container {name} does not start: {message}"),
                None => format!(
                    "container {name} ends with code {} again and again",
                    exit.code
                ),
            };
            return Some((pod.name.clone(), why));
        }
    }
    failed.map(|w| {
        (
            w.name.clone(),
            format!("{} {} failed: {}", w.kind, w.name.name, w.message),
        )
    })
}

fn late(world: &World, deadline: Duration) -> Failure {
    let mut failure = Failure::new(format!("not ready after {} s", deadline.as_secs()));
    let waiting = world
        .workloads
        .iter()
        .filter(|w| w.state != WorkloadState::Ready);
    let lines = waiting.map(|w| format!("{} {}: {}", w.kind, w.name.name, w.message));
    failure.causes.extend(lines);
    failure
}
