//! What is in the base images. The programs are this machine's: Debian's static
//! busybox, the Go tree, the node binary with its shared objects.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::Layer;
use crate::error::{AtPath, Error};
use crate::machine;
use crate::process::output;

/// One image with all the names that tests pull it by, as `repository:tag`.
pub(super) struct Image {
    pub(super) names: &'static [&'static str],
    pub(super) layers: Vec<Layer>,
    pub(super) config: Value,
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";
const STATIC_PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n";
const STATIC_GROUP: &str = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs of the real images that busybox here lacks, with the same effect on files.
const ADD_USER: &str = include_str!("files/adduser.sh");
const ADD_GROUP: &str = include_str!("files/addgroup.sh");
const GET_ENTRY: &str = include_str!("files/getent.sh");
const PACKAGES: &str = include_str!("files/apk.sh");
const BASH: &str = include_str!("files/bash.sh");
const YARN: &str = include_str!("files/yarn.js");

/// Changes whenever an image would: recipe, stand-ins, or a program of the machine.
pub(super) fn key() -> Result<String, Error> {
    let mut hash = Sha256::new();
    for text in [
        include_str!("recipes.rs"),
        include_str!("layer.rs"),
        include_str!("storage.rs"),
        ADD_USER,
        ADD_GROUP,
        GET_ENTRY,
        PACKAGES,
        BASH,
        YARN,
    ] {
        hash.update(text);
        hash.update([0]);
    }
    hash.update(output(Command::new(machine::go()?).arg("version"))?);
    for program in ["busybox", "node"] {
        let metadata = machine::program(program).and_then(|path| path.metadata().ok());
        hash.update(metadata.map_or(0, |metadata| metadata.len()).to_be_bytes());
    }
    let digest = hash.finalize();
    Ok(digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// All images.
pub(super) fn all() -> Result<Vec<Image>, Error> {
    let shell = json!({"Env": [PATH], "Cmd": ["sh"]});
    Ok(vec![
        Image {
            names: &[
                "library/busybox:latest",
                "library/busybox:1",
                "k8s-skaffold/skaffold-helpers/busybox:latest",
            ],
            layers: vec![busybox()?],
            config: shell.clone(),
        },
        Image {
            names: &["kiln/pause:1"],
            layers: vec![busybox()?],
            config: json!({"Entrypoint": ["/bin/busybox", "sleep", "infinity"], "User": "65534"}),
        },
        Image {
            names: &["library/alpine:latest", "library/alpine:3"],
            layers: vec![busybox()?, alpine()],
            config: json!({"Env": [PATH], "Cmd": ["/bin/sh"]}),
        },
        Image {
            names: &["library/ubuntu:latest", "library/debian:latest"],
            layers: vec![busybox()?, bash()],
            config: json!({"Env": [PATH], "Cmd": ["/bin/bash"]}),
        },
        Image {
            names: &[
                "distroless/static:latest",
                "distroless/static-debian12:latest",
            ],
            layers: vec![distroless()],
            config: json!({"Env": [PATH], "User": "0", "WorkingDir": "/"}),
        },
        Image {
            names: &[
                "distroless/static:nonroot",
                "distroless/static-debian12:nonroot",
            ],
            layers: vec![distroless()],
            config: json!({"Env": [PATH], "User": "65532", "WorkingDir": "/home/nonroot"}),
        },
        Image {
            names: &[
                "library/golang:latest",
                "library/golang:alpine",
                "library/golang:1",
                "library/golang:1-alpine",
            ],
            layers: vec![busybox()?, alpine(), golang()?],
            config: json!({
                "Env": [
                    "PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "GOTOOLCHAIN=local",
                    "GOPATH=/go",
                ],
                "Cmd": ["/bin/sh"],
                "WorkingDir": "/go",
            }),
        },
        Image {
            names: &[
                "library/node:latest",
                "library/node:alpine",
                "library/node:12",
                "library/node:18.16.0-alpine",
            ],
            layers: vec![busybox()?, alpine(), node()?],
            config: json!({"Env": [PATH], "Cmd": ["node"]}),
        },
    ])
}

/// Debian's static busybox with a link for each applet.
fn busybox() -> Result<Layer, Error> {
    let program = machine::program("busybox").ok_or_else(|| Error::Missing {
        what: "busybox".to_owned(),
        remedy: "install busybox-static".to_owned(),
    })?;
    let mut layer = Layer::default();
    layer
        .directory("root", 0o700)
        .directory("tmp", 0o1777)
        .directory("var/tmp", 0o1777)
        .directory("home", 0o755)
        .directory("dev", 0o755)
        .directory("proc", 0o555)
        .directory("sys", 0o555)
        .directory("run", 0o755)
        .directory("usr/bin", 0o755)
        .directory("usr/sbin", 0o755)
        .directory("usr/local/bin", 0o755)
        .directory("sbin", 0o755)
        .directory("lib", 0o755)
        .link("var/run", "/run")
        .text("etc/passwd", PASSWD)
        .text("etc/group", GROUP)
        .text("etc/nsswitch.conf", "hosts: files dns\n");
    for applet in output(Command::new(&program).arg("--list"))?.lines() {
        layer.link(&format!("bin/{applet}"), "busybox");
    }
    layer
        .link("usr/bin/env", "/bin/busybox")
        .file("bin/busybox", &program, 0o755);
    Ok(layer)
}

/// What distinguishes alpine for a Dockerfile: apk and the commands for users.
fn alpine() -> Layer {
    let mut layer = Layer::default();
    layer
        .script("sbin/apk", PACKAGES)
        .script("usr/sbin/adduser", ADD_USER)
        .script("usr/sbin/addgroup", ADD_GROUP)
        .script("usr/bin/getent", GET_ENTRY)
        .text("etc/alpine-release", "3.20.0\n");
    layer
}

fn bash() -> Layer {
    let mut layer = Layer::default();
    layer.script("bin/bash", BASH);
    layer
}

fn distroless() -> Layer {
    let mut layer = Layer::default();
    layer
        .directory("tmp", 0o1777)
        .directory("root", 0o700)
        .directory("home/nonroot", 0o700)
        .directory("var/run", 0o755)
        .text("etc/passwd", STATIC_PASSWD)
        .text("etc/group", STATIC_GROUP)
        .text("etc/nsswitch.conf", "hosts: files dns\n");
    layer
}

/// The machine's Go tree without its own tests.
fn golang() -> Result<Layer, Error> {
    let root = machine::go_env("GOROOT")?;
    let mut layer = Layer::default();
    layer
        .directory("go/src", 0o1777)
        .directory("go/bin", 0o1777);
    for name in ["bin", "lib", "pkg", "src"] {
        layer.tree(&format!("usr/local/go/{name}"), &root.join(name))?;
    }
    for name in ["VERSION", "go.env"] {
        let path = root.join(name);
        if path.exists() {
            layer.file(&format!("usr/local/go/{name}"), &path, 0o644);
        }
    }
    Ok(layer)
}

/// The machine's node with what it links, and a stand-in for yarn.
fn node() -> Result<Layer, Error> {
    if machine::program("node").is_none() {
        machine::install(&["nodejs"])?;
    }
    let program = machine::program("node").ok_or_else(|| Error::Missing {
        what: "node".to_owned(),
        remedy: "install nodejs".to_owned(),
    })?;
    let mut layer = Layer::default();
    for object in shared_objects(&program)? {
        let place = object.to_string_lossy().trim_start_matches('/').to_owned();
        layer.file(&place, &object, 0o755);
    }
    // Debian's node reads these built-ins from files, and ends at once without them.
    for name in ["acorn", "acorn-walk", "cjs-module-lexer", "undici"] {
        let place = format!("usr/share/nodejs/{name}");
        let dir = Path::new("/").join(&place);
        if dir.is_dir() {
            layer.tree(&place, &dir)?;
        }
    }
    layer
        .file("usr/local/bin/node", &program, 0o755)
        .script("usr/local/bin/yarn", YARN);
    Ok(layer)
}

/// The files that the dynamic loader maps for a program, itself included, at the
/// paths where it looks for them.
fn shared_objects(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let listing = output(Command::new("ldd").arg(program))?;
    let mut objects = Vec::new();
    for line in listing.lines() {
        // "libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)", "/lib64/ld-….so.2 (0x…)"
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        if let Some(path) = path.map(PathBuf::from) {
            path.metadata().at("inspect", &path)?;
            objects.push(path);
        }
    }
    Ok(objects)
}
