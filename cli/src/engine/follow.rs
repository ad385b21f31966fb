//! What goes on beside the iterations: logs of what runs, forwarded ports.
//! Started with the first deploy and told of each later one, so that neither a
//! line nor a listener is lost in between.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kiln_deployer::forward::{self, Forwarder, Target};
use kiln_deployer::logs::{LogFollower, Selection};
use kiln_deployer::{Applied, Cluster, Object};
use kiln_schemas::event::Failure;
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{Forward, Module};
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::args::PortForward;

/// What is being followed.
#[derive(Debug, Default)]
pub struct Following {
    logs: Option<LogFollower>,
    forwards: Option<Forwarder>,
    targets: Vec<Target>,
    /// Where pods of the deployed images are; file sync looks there.
    pub namespaces: BTreeSet<String>,
}

impl Engine {
    /// Whether logs or ports are followed after a deploy.
    pub fn follows(&self) -> bool {
        self.choices.tail || self.forwards_something()
    }

    fn forwards_something(&self) -> bool {
        let off = self.choices.forward.contains(&PortForward::Off);
        !off && !self.choices.forward.is_empty()
    }

    /// Follows what was applied now.
    pub(super) async fn follow(
        &self,
        cluster: &Cluster,
        applied: &[&Applied],
        images: &[BuiltImage],
    ) -> Result<(), Failure> {
        let mut following = self.follow.lock().await;
        let objects = applied.iter().flat_map(|a| &a.objects);
        following.namespaces = objects.filter_map(|o| o.name.namespace.clone()).collect();
        following.namespaces.insert(cluster.namespace().to_owned());
        if self.choices.tail {
            let selection = Selection {
                namespaces: following.namespaces.clone(),
                images: images.to_vec(),
                pods: Vec::new(),
            };
            match &following.logs {
                Some(logs) => logs.select(selection),
                None => {
                    let settings = self.project.modules.first().map(|m| m.deploy.logs.clone());
                    // Pods started while applying: their first lines count too.
                    let since = applied
                        .iter()
                        .map(|a| a.began.elapsed())
                        .max()
                        .unwrap_or_default();
                    let since = Timestamp::now()
                        .checked_sub(since)
                        .unwrap_or_else(|_| Timestamp::now());
                    following.logs = settings.map(|settings| {
                        LogFollower::start_since(
                            cluster,
                            selection,
                            settings,
                            self.events.clone(),
                            since,
                        )
                    });
                }
            }
        }
        if self.forwards_something() {
            let targets = self.targets(cluster, applied)?;
            // Listeners that are still wanted stay: they find new pods themselves.
            if following.forwards.is_none() || following.targets != targets {
                following.forwards = None;
                let started = Forwarder::start(cluster, targets.clone(), &self.events).await;
                following.forwards = Some(started.map_err(|error| error.failure())?);
                following.targets = targets;
            }
        }
        Ok(())
    }

    /// Goes on following until the user interrupts.
    pub async fn follow_until(&self, interrupted: &CancellationToken) {
        interrupted.cancelled().await;
        self.stop_following().await;
    }

    /// Ends logs and forwards.
    pub async fn stop_following(&self) {
        if let Some(local) = &self.local {
            local.stop_following();
        }
        *self.follow.lock().await = Following::default();
    }

    fn targets(&self, cluster: &Cluster, applied: &[&Applied]) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        if self.choices.forward.contains(&PortForward::User) {
            for module in &self.project.modules {
                for forward in &module.forward {
                    targets.push(self.user_target(module, forward, cluster)?);
                }
            }
        }
        if self.choices.forward.contains(&PortForward::Services) {
            let objects: Vec<Object> = applied
                .iter()
                .flat_map(|a| a.objects.iter().map(|o| o.live.clone()))
                .collect();
            let known: BTreeSet<_> = targets
                .iter()
                .map(|t: &Target| (t.namespace.clone(), t.name.clone()))
                .collect();
            let services = forward::services(&objects, cluster.namespace()).into_iter();
            targets.extend(
                services.filter(|t| !known.contains(&(t.namespace.clone(), t.name.clone()))),
            );
        }
        Ok(targets)
    }

    fn user_target(
        &self,
        module: &Module,
        forward: &Forward,
        cluster: &Cluster,
    ) -> Result<Target, Failure> {
        let namespace = match &forward.namespace {
            Some(template) => self.expand(template).map_err(Failure::new)?,
            None => self.module_cluster(module, cluster)?.namespace().to_owned(),
        };
        Ok(Target {
            kind: forward.resource_type.clone(),
            name: self.expand(&forward.resource_name).map_err(Failure::new)?,
            namespace,
            port: forward.port.clone(),
            address: forward.address.clone(),
            local_port: forward.local_port,
        })
    }
}
