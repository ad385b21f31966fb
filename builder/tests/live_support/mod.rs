//! One namespace, one small project and one backend per test.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kiln_builder::cluster::{
    BuildError, Built, ExecutorBinary, ExecutorPolicy, Patience, Place, RegistryReach, Session,
    Supply, lease,
};
use kiln_builder::{BuildTree, ClusterBackend, Iteration, Order};
use kiln_registry::settings::{Pem, Protocol};
use kiln_registry::{Client as Registry, Keychain, Settings};
use kiln_schemas::event::{Event, Events};
use kiln_schemas::model::{
    Artifact, ClusterBuild, DockerConfig, ExecutorChoice, ExecutorFlags, HookPair, Template,
    UploadLimits,
};
use kiln_test_cluster::{
    Cluster, Environment, Namespace, PLAIN_REGISTRY, PUSH_AND_PULL, TLS_REGISTRY,
    TLS_REGISTRY_BY_ADDRESS, WEAK_CONTEXT,
};
use kube::api::{ListParams, PostParams, ResourceExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A test's own place in the cluster, and its project on this host.
pub struct Site {
    namespace: Namespace,
    project: tempfile::TempDir,
}

impl Site {
    /// A project with a `greeting` and this Dockerfile. `None`: the cluster
    /// cannot run here, which has been said.
    pub fn new(name: &str, dockerfile: &str) -> Option<Self> {
        let cluster = Cluster::for_test()?;
        let namespace = cluster
            .namespace(&format!("builder-{name}"))
            .expect("a namespace");
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("Dockerfile"), dockerfile).unwrap();
        fs::write(project.path().join("greeting"), "hello\n").unwrap();
        Some(Self { namespace, project })
    }

    /// Kiln's executor as built beside this test. `None`: it is not there,
    /// which has been said (`cargo build -p kiln-executor` makes it).
    #[expect(
        clippy::print_stderr,
        reason = "a skipped test must say so in the test's output"
    )]
    pub fn executor(&self) -> Option<PathBuf> {
        let here = std::env::current_exe().unwrap();
        let path = here.parent()?.parent()?.join("executor");
        if path.is_file() {
            return Some(path);
        }
        let reason = format!("{} is not built", path.display());
        assert!(
            !Environment::of_process().require_all,
            "{reason}, but it is required"
        );
        eprintln!("skipped: {reason}");
        None
    }

    /// Runs the test in the cluster's network.
    pub fn run(&self, test: impl AsyncFnOnce(Setup) + Send) {
        self.namespace
            .cluster()
            .with_client(async |client| {
                test(Setup::new(self, client)).await;
                Ok(())
            })
            .expect("a client");
    }

    /// A client without any rights.
    pub async fn weak_client(&self) -> Client {
        let kubeconfig =
            Kubeconfig::read_from(self.namespace.cluster().layout().kubeconfig()).unwrap();
        let options = KubeConfigOptions {
            context: Some(WEAK_CONTEXT.into()),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    fn ca(&self) -> Vec<u8> {
        fs::read(self.namespace.cluster().layout().ca_certificate()).unwrap()
    }
}

/// What one build is made of; tests change it before [`Setup::build`].
pub struct Setup {
    pub client: Client,
    pub namespace: String,
    pub artifact: Artifact,
    pub cluster: ClusterBuild,
    pub reference: String,
    pub registry: Registry,
    pub policy: ExecutorPolicy,
    pub patience: Patience,
    admin: Client,
    reach: RegistryReach,
    binaries: Vec<ExecutorBinary>,
    root: PathBuf,
    ca: Vec<u8>,
    events: Arc<Mutex<Vec<Event>>>,
    backend: OnceCell<ClusterBackend>,
}

impl Setup {
    fn new(site: &Site, client: Client) -> Self {
        let namespace = site.namespace.name().to_owned();
        let root = site.project.path().to_owned();
        let reference = format!("{PLAIN_REGISTRY}/{namespace}/app:v1");
        let here = std::env::current_exe().unwrap();
        let executor = here.parent().unwrap().parent().unwrap().join("executor");
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        Self {
            admin: client.clone(),
            client,
            artifact: artifact(&root),
            cluster: cluster_build(),
            reference,
            registry: registry(plain_settings(), Keychain::anonymous()),
            policy: ExecutorPolicy::Kiln,
            patience: Patience::default(),
            reach: RegistryReach {
                insecure: vec![PLAIN_REGISTRY.into()],
                ..RegistryReach::default()
            },
            binaries: vec![ExecutorBinary {
                path: executor,
                arch: arch.into(),
            }],
            namespace,
            root,
            ca: site.ca(),
            events: Arc::default(),
            backend: OnceCell::new(),
        }
    }

    /// Makes the build container run this script, in the image that is named
    /// or busybox: what is tested is Kiln's side of the contract.
    pub fn stand_in(&mut self, script: &str) {
        let executor = &mut self.artifact.executor;
        executor.image.get_or_insert_with(|| "busybox".into());
        executor.init_image.get_or_insert_with(|| "busybox".into());
        self.cluster.pod_template = Some(json!({"spec": {
            "containers": [{"name": "kaniko", "command": ["sh", "-c", script, "executor"]}],
        }}));
    }

    /// The init container runs, but its image's `tar` is not found.
    pub fn without_tar(&mut self) {
        if let Some(template) = &mut self.cluster.pod_template {
            template["spec"]["initContainers"] = json!([{
                "name": "kaniko-init-container", "env": [{"name": "PATH", "value": "/nowhere"}],
                "command": ["/bin/busybox", "sleep", "600"],
            }]);
        }
    }

    /// The host's client is sent to a port where nobody listens.
    pub fn unreachable_registry(&mut self) {
        let mut settings = plain_settings();
        settings.retry = kiln_registry::settings::Retry::never();
        settings.host_mut(PLAIN_REGISTRY).connect_to = Some("http://127.0.0.1:9".parse().unwrap());
        self.registry = registry(settings, Keychain::anonymous());
    }

    /// The registry with TLS of a private CA and token auth.
    pub fn use_private_registry(&mut self) {
        self.reference = format!("{TLS_REGISTRY}/{}/app:v1", self.namespace);
        let auth = format!("{}:{}", PUSH_AND_PULL.name, PUSH_AND_PULL.password);
        let auth = base64(&auth);
        let config = json!({"auths": {TLS_REGISTRY: {"auth": auth}}}).to_string();
        let path = self.root.join("config.json");
        fs::write(&path, &config).unwrap();
        self.cluster.docker_config = Some(DockerConfig {
            secret_name: None,
            path: Some(path),
            random_name: false,
        });
        self.reach
            .certificates
            .insert(TLS_REGISTRY.into(), self.ca.clone());

        let mut settings = plain_settings();
        let host = settings.host_mut(TLS_REGISTRY);
        host.connect_to = Some(TLS_REGISTRY_BY_ADDRESS.parse().unwrap());
        let ca = Pem::new("the test CA", self.ca.clone());
        settings
            .host_mut(TLS_REGISTRY)
            .connection
            .certificates
            .push(ca.clone());
        settings
            .host_mut(TLS_REGISTRY_BY_ADDRESS)
            .connection
            .certificates
            .push(ca);
        let keychain = Keychain::anonymous()
            .with_docker_config("test", config.as_bytes())
            .unwrap();
        self.registry = registry(settings, keychain);
    }

    /// The backend of this test; made at the first call, so what it is made of
    /// is changed before.
    pub fn backend(&self) -> &ClusterBackend {
        self.backend.get_or_init(|| {
            let events = self.events.clone();
            let place = Place {
                client: self.client.clone(),
                namespace: self.namespace.clone(),
            };
            let supply = Supply {
                policy: self.policy,
                binaries: self.binaries.clone(),
                registry: self.registry.clone(),
                reach: self.reach.clone(),
            };
            let record = Events::new(move |event| events.lock().unwrap().push(event));
            let build = Arc::new(self.cluster.clone());
            ClusterBackend::new(place, session("alice"), supply, build, record)
                .with_patience(self.patience)
        })
    }

    /// Builds the project.
    pub async fn build(&self) -> Result<Built, BuildError> {
        self.build_until(&CancellationToken::new()).await
    }

    /// Builds the project until it is cancelled.
    pub async fn build_until(&self, cancel: &CancellationToken) -> Result<Built, BuildError> {
        let iteration = Iteration {
            reference: self.reference.clone(),
            ..Iteration::default()
        };
        let as_is = |template: &Template, _: &BTreeMap<String, String>| Ok(template.0.clone());
        let order = Order::render(Arc::new(self.artifact.clone()), iteration, &as_is).unwrap();
        let files = ["Dockerfile", "greeting"].map(PathBuf::from);
        let tree = BuildTree::new(&self.root, files, &self.root.join("Dockerfile"));
        self.backend().build(&order, &tree, cancel).await
    }

    /// Everything that was emitted.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// The lines of the build's log.
    pub fn log(&self) -> Vec<String> {
        let line = |event| match event {
            Event::BuildLog { line, .. } => Some(line),
            _ => None,
        };
        self.events().into_iter().filter_map(line).collect()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    /// Names of the pods that are in the namespace.
    pub async fn pods(&self) -> Vec<String> {
        let pods = self
            .api::<Pod>()
            .list(&ListParams::default())
            .await
            .unwrap();
        pods.iter().map(ResourceExt::name_any).collect()
    }

    /// Names of the secrets that are in the namespace.
    pub async fn secrets(&self) -> Vec<String> {
        let secrets = self
            .api::<Secret>()
            .list(&ListParams::default())
            .await
            .unwrap();
        secrets.iter().map(ResourceExt::name_any).collect()
    }

    /// The names of the pods that own each secret: when they go, the cluster deletes it.
    pub async fn owners_of_secrets(&self) -> Vec<Vec<String>> {
        let secrets = self.api::<Secret>().list(&ListParams::default()).await;
        let owners = |secret: &Secret| {
            let owners = secret.owner_references().iter();
            owners
                .filter(|owner| owner.kind == "Pod")
                .map(|owner| owner.name.clone())
                .collect()
        };
        secrets.unwrap().iter().map(owners).collect()
    }

    /// No pod may be created any more.
    pub async fn forbid_pods_by_quota(&self) {
        let quota: ResourceQuota = object(json!({
            "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}},
        }));
        let api = self.api::<ResourceQuota>();
        api.create(&PostParams::default(), &quota).await.unwrap();
        wait_until("the quota is counted", async || {
            api.get("none")
                .await
                .unwrap()
                .status
                .is_some_and(|status| status.hard.is_some())
        })
        .await;
    }

    /// A build pod as an earlier run of `user` would have left it.
    pub async fn leave_pod(&self, name: &str, user: &str, leased_until: &str) {
        let pod: Pod = object(json!({
            "metadata": {
                "name": name,
                "labels": lease::labels(&session(user)),
                "annotations": {lease::LEASED_UNTIL: leased_until},
            },
            "spec": {"containers": [{"name": "x", "image": "busybox", "command": ["sleep", "600"]}]},
        }));
        self.api::<Pod>()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
    }

    /// Applies a Role as printed and binds everybody to it.
    pub async fn grant(&self, yaml: &str) {
        let role: Role = serde_saphyr::from_str(yaml).expect("the printed Role is one");
        let name = role.name_any();
        self.api::<Role>()
            .create(&PostParams::default(), &role)
            .await
            .unwrap();
        let binding: RoleBinding = object(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Group",
                "name": "system:authenticated",
            }],
        }));
        self.api::<RoleBinding>()
            .create(&PostParams::default(), &binding)
            .await
            .unwrap();
        // An API server learns of roles as anybody does, a moment later.
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let review: SelfSubjectAccessReview = object(json!({
            "metadata": {},
            "spec": {"resourceAttributes": {
                "namespace": self.namespace, "verb": "create", "resource": "pods",
            }},
        }));
        wait_until("the rights are in force", async || {
            let answer = reviews.create(&PostParams::default(), &review).await;
            answer.unwrap().status.is_some_and(|status| status.allowed)
        })
        .await;
    }
}

/// Waits for something that happens soon; a test that waits for ever is ended
/// by whoever runs it, and says here what it waits for.
pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(
            started.elapsed() < Duration::from_mins(5),
            "{what}: not within five minutes"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn session(user: &str) -> Session {
    Session {
        project: "live".into(),
        user: user.into(),
        id: format!("test-{}", std::process::id()),
        version: "0.0.0".into(),
    }
}

fn plain_settings() -> Settings {
    let mut settings = Settings::default();
    settings.host_mut(PLAIN_REGISTRY).connection.protocol = Protocol::Plain;
    settings
}

fn registry(settings: Settings, keychain: Keychain) -> Registry {
    Registry::new(settings, keychain).unwrap()
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn artifact(root: &Path) -> Artifact {
    let flags = ExecutorFlags {
        mirrors: [(
            "index.docker.io".to_owned(),
            vec![PLAIN_REGISTRY.to_owned()],
        )]
        .into(),
        ..ExecutorFlags::default()
    };
    Artifact {
        image: "app".into(),
        context: root.to_owned(),
        context_sub_path: None,
        dockerfile: PathBuf::from("Dockerfile"),
        target: None,
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        requires: Vec::new(),
        hooks: HookPair::default(),
        sync: None,
        platforms: Vec::new(),
        watch_ignore: Vec::new(),
        watch_extra: Vec::new(),
        executor: ExecutorChoice::default(),
        flags,
        cache: None,
        env: Vec::new(),
        volume_mounts: Vec::new(),
        upload: UploadLimits::default(),
    }
}

fn cluster_build() -> ClusterBuild {
    ClusterBuild {
        namespace: None,
        timeout: Duration::from_mins(10),
        concurrency: 0,
        http_proxy: None,
        https_proxy: None,
        pull_secret: None,
        docker_config: None,
        volumes: Vec::new(),
        resources: None,
        service_account: None,
        tolerations: Vec::new(),
        node_selector: BTreeMap::new(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        run_as_user: None,
        pod_template: None,
    }
}
