//! The way of a pod to the outside: pasta (passt.top) carries what leaves the pod's network
//! through ordinary sockets of this machine. One process per pod, which lives as long as it.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::host::Host;
use crate::network::links::PodNetwork;

/// The name under which the program is started to become pasta.
pub(crate) const MARKER: &str = "kiln-local: egress";

/// A running pasta; ended when it is dropped.
#[derive(Debug)]
pub(super) struct Egress(Child);

impl Drop for Egress {
    fn drop(&mut self) {
        // One that ended by itself is waited for all the same.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Opens the way out of a network, and returns when it is there.
pub(super) async fn open(pasta: &Path, network: &PodNetwork, host: &Host) -> io::Result<Egress> {
    let inside = network.namespace().try_clone()?;
    let pasta = pasta.to_owned();
    let spawn = move || {
        Command::new("/proc/self/exe")
            .arg0(MARKER)
            .arg(pasta)
            .args(WORDS)
            .env_clear()
            // A path of another process would need rights that pasta gives up first.
            .stdin(Stdio::from(inside))
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut process = Egress(host.run(spawn).await?);
    let ready = process.0.stdout.take();
    let wait = move || {
        let mut line = String::new();
        if let Some(ready) = ready {
            BufReader::new(ready).read_line(&mut line)?;
        }
        Ok(line)
    };
    let line: io::Result<String> = tokio::task::spawn_blocking(wait)
        .await
        .map_err(io::Error::other)?;
    if line?.is_empty() {
        return Err(io::Error::other("pasta ended at once, node.log says why"));
    }
    Ok(process)
}

/// It writes its process id when the network is there. Nothing of the machine is shown inside:
/// no ports, and not its loopback as the gateway. Inside, the address of the machine belongs to a
/// link of its own; the pod's address on the bridge stays.
const WORDS: [&str; 23] = [
    "--foreground",
    "--quiet",
    "--ipv4-only",
    "--config-net",
    "--netns-only",
    "--no-netns-quit",
    "--no-map-gw",
    "--no-dhcp",
    "--no-dhcpv6",
    "--no-ndp",
    "--no-ra",
    "--tcp-ports=none",
    "--udp-ports=none",
    "--tcp-ns=none",
    "--udp-ns=none",
    "--ns-ifname",
    "outside",
    "--pid",
    "/proc/self/fd/1",
    "--netns",
    "/proc/self/fd/0",
    // The namespace of a user who is root looks to pasta like the machine itself, where it would
    // become nobody and lose its way in.
    "--runas",
    "0:0",
];

/// Becomes pasta when the process was started for that, and dies with the holder from then on.
pub(super) fn init(mut words: impl Iterator<Item = std::ffi::OsString>) -> io::Error {
    let Some(program) = words.next() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let killed = Some(rustix::process::Signal::KILL);
    if let Err(error) = rustix::process::set_parent_process_death_signal(killed) {
        return error.into();
    }
    Command::new(program).args(words).exec()
}
