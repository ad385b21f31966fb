//! A namespace, a client and the events of one test.

use std::sync::{Arc, Mutex};

use kiln_deployer::apply::{ApplyError, ApplySettings, SetName};
use kiln_deployer::{Applied, Cluster, Object, apply, render::manifest};
use kiln_schemas::event::{Change, Event, Events};
use kiln_schemas::model::StatusCheck;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// A test's place in the cluster.
pub struct Bench {
    pub cluster: Cluster,
    pub events: Events,
    pub seen: Arc<Mutex<Vec<Event>>>,
    kubeconfig: std::path::PathBuf,
}

/// Runs a test in a namespace of its own; prints the reason and returns when
/// there is no cluster.
pub fn in_namespace<Work>(name: &str, work: Work)
where
    Work: AsyncFnOnce(Bench) + Send,
{
    let Some(cluster) = kiln_test_cluster::Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace(name).expect("the test gets a namespace");
    let kubeconfig = cluster.layout().kubeconfig();
    cluster
        .with_client(async |client: Client| {
            let seen: Arc<Mutex<Vec<Event>>> = Arc::default();
            let keep = Arc::clone(&seen);
            let events = Events::new(move |event| keep.lock().unwrap().push(event));
            let cluster = Cluster::new(client, namespace.name());
            work(Bench {
                cluster,
                events,
                seen,
                kubeconfig,
            })
            .await;
            Ok(())
        })
        .expect("the cluster answers");
}

impl Bench {
    pub fn namespace(&self) -> &str {
        self.cluster.namespace()
    }

    /// The same namespace, seen by the user of another kube-context.
    pub async fn as_user_of(&self, context: &str) -> Cluster {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let options = KubeConfigOptions {
            context: Some(context.into()),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        Cluster::new(Client::try_from(config).unwrap(), self.namespace())
    }

    pub fn set(&self) -> SetName {
        SetName {
            project: "shop".into(),
            module: "web".into(),
            namespace: self.namespace().into(),
        }
    }

    pub async fn apply(&self, yaml: &str) -> Result<Applied, ApplyError> {
        self.apply_with(yaml, &ApplySettings::default()).await
    }

    pub async fn apply_with(
        &self,
        yaml: &str,
        settings: &ApplySettings,
    ) -> Result<Applied, ApplyError> {
        apply(
            &self.cluster,
            &objects(yaml),
            &self.set(),
            settings,
            &self.events,
        )
        .await
    }

    /// What applying said since the last call: `Kind/name change`.
    pub fn changes(&self) -> Vec<String> {
        let mut changes: Vec<_> = self
            .take()
            .into_iter()
            .filter_map(|event| match event {
                Event::Applied { object, change } => {
                    Some(format!("{}/{} {}", object.kind, object.name, word(change)))
                }
                _ => None,
            })
            .collect();
        changes.sort();
        changes
    }

    /// Every event since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// A live object as JSON; `None` when it does not exist.
    pub async fn get(&self, kind: &str, name: &str) -> Option<serde_json::Value> {
        let served = self
            .cluster
            .find_by_word(kind)
            .await
            .unwrap()
            .expect("the kind is served");
        let live = self
            .cluster
            .api(&served, None)
            .get_opt(name)
            .await
            .unwrap()?;
        (live.metadata.deletion_timestamp.is_none()).then(|| serde_json::to_value(live).unwrap())
    }
}

pub fn objects(yaml: &str) -> Vec<Object> {
    manifest::parse(yaml, "the test").unwrap()
}

/// Long enough for any machine; no test waits for it to pass.
pub fn patient() -> StatusCheck {
    StatusCheck {
        enabled: true,
        deadline: std::time::Duration::from_secs(300),
        tolerate_failures: false,
    }
}

fn word(change: Change) -> String {
    format!("{change:?}").to_lowercase()
}
