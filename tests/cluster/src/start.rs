//! Starting a cluster, in order.

use std::fs;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::api::{Progress, failed, wait_for, with_client};
use crate::error::{AtPath, Error};
use crate::layout::{Layout, NODE_NAME};
use crate::module_proxy::wait_for_default_account;
use crate::network::Network;
use crate::parts::Parts;
use crate::process::{Process, last_lines};
use crate::state::{Lock, State};
use crate::{control_plane, credentials, images, machine, node, registries, stop};

/// Starts the cluster of `layout`, or finds it running. What is left of an earlier
/// one that was killed is removed first.
pub(crate) fn start(
    layout: &Layout,
    network: &Network,
    report: &mut dyn FnMut(&str),
) -> Result<State, Error> {
    let _run = Lock::take(&layout.run_lock())?;
    if let Some(state) = State::load(layout)? {
        if state.is_running() {
            return Ok(state);
        }
        report("removing the rest of an earlier cluster");
        stop::remove(layout, &state)?;
    }
    let (parts, images) = {
        let _cache = Lock::take(&layout.cache_lock())?;
        machine::install_packages()?;
        let parts = Parts::build(layout, report)?;
        (parts, images::build(layout, report)?)
    };
    report("starting the cluster");
    for folder in [
        layout.logs(),
        layout.clients(),
        layout.config(""),
        layout.data("pod-logs"),
    ] {
        fs::create_dir_all(&folder).at("create", &folder)?;
    }
    machine::require_room(&layout.data(""))?;
    let mut starter = Starter {
        layout,
        parts,
        state: State::new(network.clone()),
    };
    starter.state.save(layout)?;
    let started = starter.run(&images);
    if started.is_err() {
        // The logs stay; the error quotes the one that matters.
        stop::remove(layout, &starter.state)?;
    }
    started.map(|()| starter.state)
}

struct Starter<'a> {
    layout: &'a Layout,
    parts: Parts,
    state: State,
}

impl Starter<'_> {
    fn run(&mut self, images: &std::path::Path) -> Result<(), Error> {
        let layout = self.layout;
        credentials::write(layout)?;
        node::write_config(layout, &self.state.network, &self.parts)?;
        registries::write_config(layout)?;
        images::seed(images, &layout.data("registry-plain"))?;
        self.link_clients()?;
        stop::make_cgroups(&self.state.network)?;
        self.state.network.create()?;

        self.spawn("etcd", "kube", control_plane::etcd(layout))?;
        self.spawn("apiserver", "kube", control_plane::api_server(layout))?;
        self.spawn(
            "registry-plain",
            "registry",
            registries::serve(layout, "registry-plain"),
        )?;
        self.spawn(
            "registry-tls",
            "registry",
            registries::serve(layout, "registry-tls"),
        )?;
        self.spawn("tokens", "tokens", registries::front(layout))?;
        self.spawn("containerd", "containerd", node::containerd(layout))?;
        self.wait_for_api()?;
        self.spawn(
            "controller-manager",
            "kube",
            control_plane::controller_manager(layout),
        )?;
        self.spawn("scheduler", "kube", control_plane::scheduler(layout))?;
        self.spawn("kubelet", "kube", node::kubelet(layout))?;
        self.spawn("kube-proxy", "kube", node::proxy(layout))?;
        let upstream = match self.state.network {
            Network::Host => first_name_server(),
            Network::Namespace(_) => None,
        };
        self.spawn(
            "dns",
            "kube",
            control_plane::name_server(layout, upstream.as_deref()),
        )?;
        self.wait_for_node()?;
        self.state.complete = true;
        self.state.save(layout)
    }

    fn spawn(&mut self, name: &str, program: &str, arguments: Vec<String>) -> Result<(), Error> {
        let mut command = self.state.network.command(self.parts.program(program));
        // containerd looks its shim up in PATH; all of them call iptables and mount.
        let path = format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.parts.folder_of("containerd").display()
        );
        command
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.layout.run())
            .current_dir(self.layout.run());
        let process = Process::spawn(name, command, &self.layout.log(name))?;
        self.state.processes.push(process);
        self.state.save(self.layout)
    }

    fn link_clients(&self) -> Result<(), Error> {
        for name in ["crane", "kustomize", "registry", "azurite-blob"] {
            let link = self.layout.clients().join(name);
            if fs::symlink_metadata(&link).is_ok() {
                fs::remove_file(&link).at("remove", &link)?;
            }
            std::os::unix::fs::symlink(self.parts.program(name), &link).at("link", &link)?;
        }
        Ok(())
    }

    fn wait_for_api(&self) -> Result<(), Error> {
        self.with_client(async |client: Client| {
            wait_for("the API server", || async {
                self.all_alive()?;
                let request = http_get("/readyz");
                Ok(match client.request_text(request).await {
                    Ok(_) => Progress::Done,
                    Err(error) => Progress::Waiting(error.to_string()),
                })
            })
            .await
        })
    }

    fn wait_for_node(&self) -> Result<(), Error> {
        self.with_client(async |client: Client| {
            grant_viewer(&client).await?;
            let nodes: Api<Node> = Api::all(client.clone());
            wait_for("the node to be ready", || async {
                self.all_alive()?;
                let node = nodes
                    .get_opt(NODE_NAME)
                    .await
                    .map_err(failed("read the node"))?;
                let conditions = node.and_then(|node| node.status?.conditions);
                let ready = conditions
                    .unwrap_or_default()
                    .into_iter()
                    .find(|c| c.type_ == "Ready");
                Ok(match ready {
                    None => Progress::Waiting("no condition yet".to_owned()),
                    Some(ready) => {
                        Progress::when(ready.status == "True", ready.message.unwrap_or_default())
                    }
                })
            })
            .await?;
            wait_for_default_account(&client, "default").await
        })
    }

    fn with_client<Work, Answer>(&self, work: Work) -> Result<(), Error>
    where
        Work: FnOnce(Client) -> Answer + Send,
        Answer: Future<Output = Result<(), Error>>,
    {
        with_client(&self.state.network, &self.layout.kubeconfig(), work)
    }

    /// A component that ended will never become ready: say so at once, with its log.
    fn all_alive(&self) -> Result<(), Error> {
        let Some(dead) = self
            .state
            .processes
            .iter()
            .find(|process| !process.is_alive())
        else {
            return Ok(());
        };
        let path = self.layout.log(&dead.name);
        let log = fs::read(&path).at("read", &path)?;
        Err(Error::Component {
            name: dead.name.clone(),
            problem: "ended while the cluster was starting".to_owned(),
            log: last_lines(&String::from_utf8_lossy(&log), 15),
            path,
        })
    }
}

fn http_get(path: &str) -> http::Request<Vec<u8>> {
    let mut request = http::Request::new(Vec::new());
    // A constant path is a valid URI.
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
}

/// The user `viewer` gets the built-in role that reads everything but secrets.
async fn grant_viewer(client: &Client) -> Result<(), Error> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "kiln-test-viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let apply = PatchParams::apply("kiln-test-cluster").force();
    bindings
        .patch("kiln-test-viewer", &apply, &Patch::Apply(&binding))
        .await
        .map(drop)
        .map_err(failed("grant the viewer's rights"))
}

/// The machine's own resolver, for pods of a cluster in the machine's network.
fn first_name_server() -> Option<String> {
    let text = fs::read_to_string("/etc/resolv.conf").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("nameserver "))
        .map(|server| server.trim().to_owned())
}
