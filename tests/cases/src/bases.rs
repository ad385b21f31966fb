//! The base images of the cases, made on the spot: a busybox, and what images from elsewhere may
//! hold. Only what a case puts on top of them is compared, so the busybox itself may be any.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::server::Answer;

/// The time of all files of the bases: 2002-02-02T02:02:02Z.
pub const TIME: u64 = 1_012_615_322;

const APPLETS: &str = "[ adduser addgroup awk basename cat chgrp chmod chown cmp cp cut date dd df \
    dirname du echo env expr false find grep gzip head hostname id install ip kill ln ls md5sum \
    mkdir mkfifo mknod mktemp more mount mv nc nproc od printenv printf ps pwd readlink realpath \
    rm rmdir sed sh sha256sum sleep sort stat su tail tar tee test touch tr true tty umount uname \
    uniq wc which whoami xargs yes";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n\
    svc:x:500:600::/srv:/bin/false\nnobody:x:65534:65534::/:/bin/false\n";
const GROUP: &str = "root:x:0:\nstaff:x:50:app,svc\napp:x:1000:\nsvc:x:600:\nnobody:x:65534:\n";

/// All images, as answers of a registry.
pub fn images(busybox: &[u8]) -> BTreeMap<String, Answer> {
    let tools = tools(busybox);
    let mut images = Images::default();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let plain = json!({"Env": [path], "Cmd": ["sh"], "WorkingDir": "/"});
    images.add("base", &plain, &[&tools]);
    images.add("bare", &json!({}), &[&bare(busybox)]);
    images.add("odd", &plain, &[&tools, &odd_below(), &odd_above()]);
    images.add("hollow", &plain, &[&odd_below(), &hollow()]);
    images.add("settings", &settings(path), &[&tools]);
    for (name, triggers) in triggers() {
        let config = json!({"Env": [path], "Cmd": ["sh"], "WorkingDir": "/", "OnBuild": triggers});
        images.add(name, &config, &[&tools]);
    }
    for (name, layer) in hostile() {
        images.add(name, &plain, &[&tools, &layer]);
    }
    images.answers
}

fn triggers() -> Vec<(&'static str, Value)> {
    vec![
        (
            "onbuild",
            json!([
                "COPY . /app/",
                "RUN cat /app/a.txt > /built",
                "ENV TRIGGERED=yes",
                "WORKDIR /app"
            ]),
        ),
        ("onbuild-from", json!(["COPY --from=base /etc/motd /motd"])),
        (
            "onbuild-stage",
            json!([
                "COPY --from=build /made /made",
                "RUN --mount=from=build,target=/b cat /b/made > /read"
            ]),
        ),
        (
            "onbuild-arg",
            json!(["ARG VERSION=1", "LABEL version=$VERSION", "USER app"]),
        ),
        (
            "onbuild-heredoc",
            json!([
                "COPY <<EOF /here\nhello\nEOF",
                "RUN <<EOF\necho a > /one\necho b > /two\nEOF"
            ]),
        ),
        ("onbuild-broken", json!(["FROM other"])),
    ]
}

fn settings(path: &str) -> Value {
    json!({
        "User": "app",
        "ExposedPorts": {"80/tcp": {}},
        "Env": [path, "ONE=1", "SPACED=x y", "EMPTY="],
        "Entrypoint": ["/entry", "point"],
        "Cmd": ["argument"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Labels": {"base": "yes", "kept": "1"},
        "StopSignal": "SIGINT",
        "Shell": ["/bin/sh", "-ec"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Retries": 2},
    })
}

/// A layer in the making.
struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(&mut self, kind: tar::EntryType, (path, mode, uid): (&str, u32, u64), body: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_mtime(TIME);
        header.set_size(body.len() as u64);
        // Not `append_data`: that refuses the names which the hostile layers are about.
        if path.len() > 100 {
            self.0.append_data(&mut header, path, body).unwrap();
            return;
        }
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        self.0.append(&header, body).unwrap();
    }

    fn file(&mut self, path: &str, mode: u32, body: &[u8]) {
        self.entry(tar::EntryType::Regular, (path, mode, 0), body);
    }

    fn dir(&mut self, path: &str, mode: u32, uid: u64) {
        self.entry(tar::EntryType::Directory, (path, mode, uid), &[]);
    }

    fn link(&mut self, kind: tar::EntryType, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        // A further name says again what the file is.
        let is_hard = kind == tar::EntryType::Link;
        header.set_mode(if is_hard { 0o604 } else { 0o777 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(TIME);
        header.set_size(0);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, &[][..]).unwrap();
    }

    fn symlink(&mut self, path: &str, target: &str) {
        self.link(tar::EntryType::Symlink, path, target);
    }

    fn device(&mut self, path: &str, (major, minor): (u32, u32)) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Char);
        header.set_path(path).unwrap();
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(TIME);
        header.set_size(0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.0.append(&header, &[][..]).unwrap();
    }

    fn attributes(&mut self, path: &str, attributes: &[(&str, &[u8])]) {
        let records: Vec<(String, &[u8])> = attributes
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value))
            .collect();
        self.0
            .append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))
            .unwrap();
        self.file(path, 0o755, b"has attributes\n");
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn tools(busybox: &[u8]) -> Vec<u8> {
    let mut layer = Layer::new();
    for dir in [
        "bin",
        "dev",
        "etc",
        "home",
        "opt",
        "opt/dir",
        "proc",
        "run",
        "srv",
        "sys",
        "usr",
        "usr/bin",
        "usr/local",
        "usr/local/bin",
        "var",
        "var/empty",
        "var/log",
    ] {
        layer.dir(dir, 0o755, 0);
    }
    layer.dir("root", 0o700, 0);
    layer.dir("home/app", 0o750, 1000);
    layer.dir("opt/shared", 0o2775, 50);
    layer.dir("tmp", 0o1777, 0);
    layer.file("bin/busybox", 0o755, busybox);
    for applet in APPLETS.split_whitespace() {
        layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    layer.file("etc/passwd", 0o644, PASSWD.as_bytes());
    layer.file("etc/group", 0o644, GROUP.as_bytes());
    layer.file("etc/motd", 0o644, b"welcome\n");
    layer.file("opt/dir/kept", 0o640, b"kept\n");
    layer.symlink("opt/link", "dir");
    layer.symlink("opt/absolute", "/opt/dir");
    layer.symlink("opt/dangling", "nowhere/deep");
    layer.symlink("opt/up", "../../../../etc");
    layer.symlink("var/run", "/run");
    layer.done()
}

/// A shell and nothing else: no `/etc`, no mount points.
fn bare(busybox: &[u8]) -> Vec<u8> {
    let mut layer = Layer::new();
    layer.dir("bin", 0o755, 0);
    layer.file("bin/busybox", 0o755, busybox);
    for applet in [
        "sh", "cat", "echo", "env", "ls", "mkdir", "id", "pwd", "stat", "touch",
    ] {
        layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    layer.done()
}

fn odd_below() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.dir("gone", 0o755, 0);
    layer.file("gone/a", 0o644, b"a\n");
    layer.file("gone/b", 0o644, b"b\n");
    layer.dir("hidden", 0o755, 0);
    layer.file("hidden/x", 0o644, b"x\n");
    layer.dir("hidden/sub", 0o755, 0);
    layer.file("hidden/sub/y", 0o644, b"y\n");
    layer.file("hard", 0o604, b"hard\n");
    layer.link(tar::EntryType::Link, "harder", "hard");
    layer.file("setuid", 0o4755, b"s\n");
    layer.entry(tar::EntryType::Fifo, ("pipe", 0o600, 7), &[]);
    layer.device("nullish", (1, 3));
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    layer.attributes(
        "attributes",
        &[("user.note", b"seen"), ("security.capability", &capability)],
    );
    let mut long = String::new();
    for part in 0..6 {
        let _ = write!(long, "a-rather-long-directory-name-{part}/");
    }
    layer.file(&format!("{long}file"), 0o644, b"long\n");
    layer.file("file-then-dir", 0o644, b"f\n");
    layer.dir("dir-then-file", 0o755, 0);
    layer.file("dir-then-file/inside", 0o644, b"i\n");
    layer.dir("link-then-dir-target", 0o755, 0);
    layer.symlink("link-then-dir", "link-then-dir-target");
    layer.done()
}

fn odd_above() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.file("gone/.wh.a", 0o644, &[]);
    layer.dir("hidden", 0o711, 3);
    layer.file("hidden/.wh..wh..opq", 0o644, &[]);
    layer.file("hidden/z", 0o644, b"z\n");
    layer.dir("file-then-dir", 0o755, 0);
    layer.file("file-then-dir/now", 0o644, b"now\n");
    layer.file("dir-then-file", 0o644, b"now a file\n");
    layer.dir("link-then-dir", 0o755, 0);
    layer.file("link-then-dir/own", 0o644, b"own\n");
    layer.done()
}

/// Hides all that is below it.
fn hollow() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.file(".wh..wh..opq", 0o644, &[]);
    layer.file("alone", 0o644, b"alone\n");
    layer.done()
}

/// Layers that try to write where they must not.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let layer = |fill: &dyn Fn(&mut Layer)| {
        let mut layer = Layer::new();
        fill(&mut layer);
        layer.done()
    };
    vec![
        (
            "hostile-dots",
            layer(&|l| l.file("../../escaped", 0o644, b"no\n")),
        ),
        (
            "hostile-absolute",
            layer(&|l| l.file("/absolute", 0o644, b"inside\n")),
        ),
        (
            "hostile-symlink",
            layer(&|l| {
                l.symlink("way", "../../../../../../tmp");
                l.file("way/escaped", 0o644, b"no\n");
            }),
        ),
        (
            "hostile-hardlink",
            layer(&|l| l.link(tar::EntryType::Link, "stolen", "../../../etc/shadow")),
        ),
        (
            "hostile-twice",
            layer(&|l| {
                l.file("twice", 0o644, b"first\n");
                l.file("twice", 0o600, b"second\n");
                l.dir("twice-dir", 0o755, 0);
                l.symlink("twice-dir", "/tmp");
                l.file("twice-dir/x", 0o644, b"x\n");
            }),
        ),
    ]
}

#[derive(Default)]
struct Images {
    answers: BTreeMap<String, Answer>,
}

impl Images {
    fn add(&mut self, name: &str, config: &Value, layers: &[&Vec<u8>]) {
        let repository = format!("/v2/library/{name}");
        let mut put = |bytes: Vec<u8>| {
            let (digest, size) = (digest(&bytes), bytes.len());
            let answer = Answer::body(bytes).header("Content-Type", "application/octet-stream");
            self.answers
                .insert(format!("{repository}/blobs/{digest}"), answer);
            (digest, size)
        };
        let mut described = Vec::new();
        for layer in layers {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(layer).unwrap();
            let (digest, size) = put(gzip.finish().unwrap());
            described.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest, "size": size,
            }));
        }
        let history: Vec<Value> = layers
            .iter()
            .map(|_| json!({"created": "2002-02-02T02:02:02Z", "created_by": "base"}))
            .collect();
        let config = json!({
            "architecture": architecture(), "os": "linux", "created": "2002-02-02T02:02:02Z",
            "config": config, "history": history,
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>(),
            },
        });
        let (config, size) = put(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config, "size": size,
            },
            "layers": described,
        })
        .to_string()
        .into_bytes();
        let digest = digest(&manifest);
        let answer = Answer::body(manifest)
            .header("Content-Type", MANIFEST)
            .header("Docker-Content-Digest", digest.as_str());
        for tag in ["latest", &digest] {
            self.answers
                .insert(format!("{repository}/manifests/{tag}"), answer.clone());
        }
        let api = Answer::body("{}").header("Content-Type", "application/json");
        self.answers.insert("/v2/".to_owned(), api);
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// As OCI names the processor of this machine.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
