//! The cluster, asked for the first time when something needs it.

use kiln_deployer::apply::Prune;
use kiln_deployer::delete::{Cascade, DeleteSettings};
use kiln_deployer::{Cluster, Object};
use kiln_schemas::default_repo::{Levels, rewrite};
use kiln_schemas::event::{Event, Failure, ObjectName};
use tokio_util::sync::CancellationToken;

use super::{Engine, Stopped};
use crate::error::{CommandError, Kind};
use crate::kubernetes::{self, Connected};

/// How long `delete --wait` waits.
const DELETE_WAIT: std::time::Duration = std::time::Duration::from_secs(300);

impl Engine {
    /// The client, made once.
    pub(super) async fn connected(&self) -> Result<&Connected, Failure> {
        if self.local.is_some() {
            return Err(Failure::new(
                "this needs a cluster, and the target is this machine",
            ));
        }
        let connected = self
            .connected
            .get_or_try_init(|| kubernetes::connect(self.kubeconfigs.as_ref()))
            .await;
        connected.map_err(first)
    }

    /// The cluster with the namespace that is deployed to.
    pub(super) async fn cluster(&self) -> Result<Cluster, Failure> {
        let connected = self.connected().await?;
        let namespace = self
            .choices
            .namespace
            .clone()
            .unwrap_or_else(|| connected.namespace.clone());
        let cluster = self
            .cluster
            .get_or_init(|| async { Cluster::new(connected.client.clone(), namespace) })
            .await;
        Ok(cluster.clone())
    }

    /// Another context's cluster.
    pub(super) async fn cluster_of(&self, context: &str) -> Result<Cluster, Failure> {
        let mut kubeconfigs = self.kubeconfigs.clone();
        if let Some(kubeconfigs) = &mut kubeconfigs {
            kubeconfigs.context = Some(context.to_owned());
        }
        let connected = kubernetes::connect(kubeconfigs.as_ref())
            .await
            .map_err(first)?;
        Ok(Cluster::new(connected.client, connected.namespace))
    }

    /// A reference as it is pushed: below the default repository where one is
    /// set.
    pub fn rewritten(&self, reference: &str) -> Result<String, CommandError> {
        let Some(repo) = &self.default_repo else {
            return Ok(reference.to_owned());
        };
        let levels = match self.settings.multi_level_repo {
            Some(true) => Levels::Many,
            _ => Levels::Known,
        };
        rewrite(reference, repo, levels)
            .map_err(|error| CommandError::from_error(Kind::Config, &error))
    }

    /// The cluster for rendering, which needs one only for manifests that are
    /// taken from it.
    pub async fn cluster_for_rendering(&self) -> Result<Option<Cluster>, CommandError> {
        let takes = self
            .project
            .modules
            .iter()
            .any(|m| !m.manifests.remote.is_empty());
        if !takes {
            return Ok(None);
        }
        let cluster = self.cluster().await;
        cluster.map(Some).map_err(|failure| CommandError {
            kind: Kind::Cluster,
            failures: vec![failure],
        })
    }

    /// Applies objects that were rendered before, as the first module's set.
    pub async fn apply(
        &self,
        objects: Vec<Object>,
        cancel: &CancellationToken,
    ) -> Result<(), Stopped> {
        let work = self.apply_objects(objects);
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Stopped::Cancelled),
            result = work => result.map_err(|failure| {
                self.failed(|failure| Event::DeployFailed { failure }, failure)
            }),
        }
    }

    /// Deletes what was deployed, as at the end of `dev`.
    pub async fn delete(&self) -> Result<(), Failure> {
        self.delete_all(Prune::SparingData, None).await
    }

    /// Deletes what was deployed, as far as `reach` says.
    pub async fn delete_all(
        &self,
        reach: Prune,
        wait: Option<std::time::Duration>,
    ) -> Result<(), Failure> {
        let work = async {
            if let Some(local) = &self.local {
                return self.delete_here(local, reach).await;
            }
            let cluster = self.cluster().await?;
            let settings = DeleteSettings {
                reach,
                cascade: Cascade::Background,
                wait,
            };
            // What was deployed last goes first.
            for module in self.project.modules.iter().rev() {
                let cluster = self.module_cluster(module, &cluster)?;
                let set = self.set_name(module, &cluster);
                kiln_deployer::delete(&cluster, &set, &[], &settings, &self.events)
                    .await
                    .map_err(|error| error.failure())?;
            }
            Ok(())
        };
        let result: Result<(), Failure> = work.await;
        result.inspect_err(|failure| {
            let failure = failure.clone();
            self.events.emit(Event::Failed { failure });
        })
    }

    /// The wait of `delete --wait`.
    pub fn delete_wait() -> std::time::Duration {
        DELETE_WAIT
    }

    /// What was deployed and is still there.
    pub async fn deployed(&self) -> Result<Vec<ObjectName>, Failure> {
        if let Some(local) = &self.local {
            return local.deployed().await;
        }
        let cluster = self.cluster().await?;
        let mut objects = Vec::new();
        for module in &self.project.modules {
            let cluster = self.module_cluster(module, &cluster)?;
            let set = self.set_name(module, &cluster);
            let members = kiln_deployer::delete::members_of(&cluster, &set).await;
            objects.extend(members.map_err(|error| error.failure())?);
        }
        Ok(objects)
    }
}

fn first(error: CommandError) -> Failure {
    error
        .failures
        .into_iter()
        .next()
        .unwrap_or_else(|| Failure::new("there is no cluster"))
}
