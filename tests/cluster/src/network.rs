//! The network that the whole cluster lives in: a namespace of its own, with a
//! bridge whose address is the node's.

use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::layout::{NODE_BRIDGE, NODE_IP, POD_BRIDGE, SERVICE_CIDR};
use crate::process::run;

/// Where the cluster's processes find their network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A network namespace with this name, made at the start and removed at the end.
    /// Nothing outside can reach the cluster, and the cluster can reach nothing.
    Namespace(String),
    /// The machine's own network. Pods then reach what the machine reaches. Only for
    /// machines that run one cluster: its ports and iptables chains are fixed.
    Host,
}

impl Network {
    /// A command that runs `program` in this network.
    ///
    /// `nsenter --net` and not `ip netns exec`: the latter mounts a new /sys, and
    /// the kubelet then finds no cgroups.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match self.file() {
            None => Command::new(program),
            Some(file) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", file.display()));
                command.arg("--").arg(program);
                command
            }
        }
    }

    /// The file that holds the namespace, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Namespace(name) => Some(PathBuf::from("/run/netns").join(name)),
            Self::Host => None,
        }
    }

    /// The root of the cluster's control groups, below the hierarchy's own root. It
    /// keeps the kubelets of two clusters from ending each other's pods.
    pub(crate) fn cgroup(&self) -> String {
        match self {
            Self::Namespace(name) => format!("kiln-{name}"),
            Self::Host => "kiln-host".to_owned(),
        }
    }

    pub(crate) fn create(&self) -> Result<(), Error> {
        if let Self::Namespace(name) = self {
            run(Command::new("ip").args(["netns", "add", name]))?;
            self.ip(&["link", "set", "lo", "up"])?;
        }
        self.ip(&["link", "add", NODE_BRIDGE, "type", "bridge"])?;
        self.ip(&[
            "address",
            "add",
            &format!("{NODE_IP}/24"),
            "dev",
            NODE_BRIDGE,
        ])?;
        self.ip(&["link", "set", NODE_BRIDGE, "up"])?;
        // Without a default route, a packet to a service address needs some route to
        // come as far as the chain that rewrites it.
        self.ip(&["route", "add", SERVICE_CIDR, "dev", NODE_BRIDGE])?;
        let forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        run(self.command("sh").args(["-c", forwarding]))
    }

    /// Removes what [`Network::create`] and the pods' network plugin made.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match self {
            Self::Namespace(name) => {
                if self.file().is_some_and(|file| file.exists()) {
                    run(Command::new("ip").args(["netns", "delete", name]))?;
                }
            }
            Self::Host => {
                for bridge in [NODE_BRIDGE, POD_BRIDGE] {
                    if std::path::Path::new("/sys/class/net").join(bridge).exists() {
                        self.ip(&["link", "delete", bridge])?;
                    }
                }
                // kube-proxy leaves its chains, so that a restart breaks no connection;
                // every chain and rule of it and of the pods' network has such a name.
                for tables in ["iptables", "ip6tables"] {
                    let sweep =
                        format!("{tables}-save | grep -v -e KUBE- -e CNI- | {tables}-restore");
                    run(Command::new("sh").args(["-c", &sweep]))?;
                }
            }
        }
        Ok(())
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), Error> {
        run(self.command("ip").args(arguments))
    }
}
