//! A registry, a store, base images, and what came out of a build.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// Programs that stand in for a distribution's own, as shell scripts.
const STAND_INS: &[(&str, &str)] = &[
    // What a package manager does to files, without a network.
    (
        "yarn",
        "case $1 in install) mkdir -p node_modules .yarn; echo installed >> node_modules/log; echo cache > .yarn/cache;; \
         build) mkdir -p build; cp *.js build/;; esac",
    ),
    ("apk", "echo \"$@\" > /etc/apk-was-here"),
    ("getent", "grep \"^[^:]*:[^:]*:$2:\" /etc/$1"),
    ("addgroup", "echo \"$4:x:$3:\" >> /etc/group"),
    (
        "adduser",
        "while [ $# -gt 1 ]; do case $1 in -u) u=$2; shift;; -G) g=$2; shift;; -s) shift;; esac; shift; done; \
         gid=$(grep \"^$g:\" /etc/group | cut -d: -f3); echo \"$1:x:$u:${gid:-$u}::/home/$1:/bin/sh\" >> /etc/passwd",
    ),
    ("groupmod", "exit 1"),
    ("usermod", "exit 1"),
    // What the compiler does: it reads and fills its caches, and writes a binary.
    (
        "go",
        "echo compiled >> $GOCACHE/objects; echo module >> $GOMODCACHE/modules; \
         while [ \"$1\" != -o ]; do shift; done; cat main.go > $2; chmod +x $2",
    ),
];

/// One test's own registry and directories.
pub struct World {
    dir: tempfile::TempDir,
    registry: Child,
    port: u16,
    crane: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.registry.kill();
        let _ = self.registry.wait();
    }
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: char,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    pub link: String,
    pub content: Vec<u8>,
}

impl Seen {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }
}

pub type Tree = BTreeMap<String, Seen>;

#[expect(
    clippy::disallowed_methods,
    reason = "a test finds its tools by the environment"
)]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reports a test that cannot run.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn skip(why: &str) -> Option<World> {
    assert!(
        variable("KILN_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "cannot run: {why}"
    );
    eprintln!("skipped: {why}");
    None
}

/// A program of the harness, or `None` with a reason on standard error.
pub fn tool(name: &str) -> Option<PathBuf> {
    // As the harness prints it (`kiln-test-cluster env`), or where it is without being told.
    let tools = variable("KILN_TEST_BIN");
    let path = PathBuf::from(tools.unwrap_or("/var/lib/kiln-test-cluster/bin".into())).join(name);
    if path.exists() {
        return Some(path);
    }
    skip(&format!(
        "{} is not there (make cluster builds it)",
        path.display()
    ));
    None
}

impl World {
    /// A world with a `base:1` image made from the machine's busybox, or `None` with a reason on
    /// standard error.
    pub fn new() -> Option<Self> {
        let (Some(registry), Some(crane)) = (tool("registry"), tool("crane")) else {
            return None;
        };
        if !Path::new("/bin/busybox").exists() {
            return skip("/bin/busybox is not there (Debian: busybox-static)");
        }
        if !rustix::process::geteuid().is_root() {
            return skip("not root");
        }
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = dir.path().join("registry.yml");
        let data = dir.path().join("registry");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
                data.display()
            ),
        )
        .unwrap();
        let registry = Command::new(registry)
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut world = Self {
            dir,
            registry,
            port,
            crane,
        };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(
                world.registry.try_wait().unwrap(),
                None,
                "the registry has to run"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        world.make_base();
        Some(world)
    }

    fn make_base(&self) {
        let context = self.context("base");
        fs::copy("/bin/busybox", context.join("busybox")).unwrap();
        let mut dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\n\
             RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
             RUN mkdir -p /etc /tmp /root /var/empty /var/log && chmod 1777 /tmp && ln -s /run /var/run && mkdir /run \
             && echo root:x:0:0:root:/root:/bin/sh > /etc/passwd && echo root:x:0: > /etc/group\n"
            .to_owned();
        for (name, script) in STAND_INS {
            fs::write(context.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
            dockerfile.push_str(&format!("COPY --chmod=755 {name} /bin/{name}\n"));
        }
        dockerfile.push_str("CMD [\"sh\"]\n");
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        self.build(&context, "base:1", &[]);
    }

    /// A new, empty directory.
    pub fn context(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The store that builds of this world share.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// `name:tag` as a full image name of this world's registry.
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Writes a Dockerfile in which `BASE` stands for the base image.
    pub fn dockerfile(&self, context: &Path, text: &str) {
        let text = text.replace("BASE", &self.image("base:1"));
        fs::write(context.join("Dockerfile"), text).unwrap();
    }

    /// Runs the executor with exactly these arguments.
    pub fn executor(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_executor"))
            .args(args)
            .env_clear()
            .env("KANIKO_DIR", self.dir.path().join("kaniko"))
            .output()
            .unwrap()
    }

    /// Runs a build as in a pod: in a mount namespace of its own, after the shell commands
    /// `mounts`, with these further variables. `/run` and `/var/lib` are empty: what this machine
    /// mounts there for containers of its own is none of the pod's.
    pub fn build_in_pod(
        &self,
        (mounts, env): (&str, &[(&str, &str)]),
        context: &Path,
        image: &str,
    ) -> Output {
        let script = format!(
            "mount -t tmpfs tmpfs /var/lib\nmount -t tmpfs tmpfs /run\n{mounts}\nexec {} -c {} --store-dir {} -d {}",
            env!("CARGO_BIN_EXE_executor"),
            context.display(),
            self.store().display(),
            self.image(image)
        );
        Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-ec",
                &script,
            ])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            .env("KANIKO_DIR", self.dir.path().join("kaniko"))
            .envs(env.iter().copied())
            .output()
            .unwrap()
    }

    /// Runs a build that is expected to push `image`; returns its log.
    pub fn build(&self, context: &Path, image: &str, more: &[&str]) -> String {
        let output = self.try_build(context, image, more);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        let validated = self.crane(&["validate", "--remote", &self.image(image)]);
        assert!(String::from_utf8(validated).unwrap().starts_with("PASS"));
        log
    }

    /// Runs a build, whatever comes of it.
    pub fn try_build(&self, context: &Path, image: &str, more: &[&str]) -> Output {
        let (context, store) = (
            context.display().to_string(),
            self.store().display().to_string(),
        );
        let destination = self.image(image);
        let mut args = vec!["-c", &context, "--store-dir", &store, "-d", &destination];
        args.extend(more);
        self.executor(&args)
    }

    /// Starts a build whose log goes to a file.
    pub fn start_build(&self, context: &Path, image: &str, log: &Path) -> Child {
        Command::new(env!("CARGO_BIN_EXE_executor"))
            .args(["-d", &self.image(image), "-c"])
            .arg(context)
            .arg("--store-dir")
            .arg(self.store())
            .env_clear()
            .env("KANIKO_DIR", self.dir.path().join("kaniko"))
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap()
    }

    /// Makes the registry forget the blobs of a repository, but not its manifests, as a garbage
    /// collection that goes wrong does.
    pub fn forget_blobs(&self, repository: &str) {
        let repositories = "registry/docker/registry/v2/repositories";
        let dir = self.dir.path().join(repositories).join(repository);
        fs::remove_dir_all(dir.join("_layers")).unwrap();
    }

    fn crane(&self, args: &[&str]) -> Vec<u8> {
        let output = Command::new(&self.crane).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The file system of an image.
    pub fn tree(&self, image: &str) -> Tree {
        read(&self.crane(&["export", &self.image(image), "-"]))
    }

    /// The entries of one layer, whiteouts included; counted from the base, negative from the top.
    pub fn layer(&self, image: &str, index: isize) -> Tree {
        let layers = self.manifest(image)["layers"].as_array().unwrap().clone();
        let index = index.rem_euclid(isize::try_from(layers.len()).unwrap());
        let digest = layers[usize::try_from(index).unwrap()]["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        let name = self.image(image);
        let (repository, _) = name.rsplit_once(':').unwrap();
        let blob = self.crane(&["blob", &format!("{repository}@{digest}")]);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&blob[..])
            .read_to_end(&mut tar)
            .unwrap();
        read(&tar)
    }

    pub fn manifest(&self, image: &str) -> Value {
        serde_json::from_slice(&self.crane(&["manifest", &self.image(image)])).unwrap()
    }

    pub fn config(&self, image: &str) -> Value {
        serde_json::from_slice(&self.crane(&["config", &self.image(image)])).unwrap()
    }

    pub fn digest(&self, image: &str) -> String {
        String::from_utf8(self.crane(&["digest", &self.image(image)]))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// How many layers an image has on top of the base.
    pub fn own_layers(&self, image: &str) -> usize {
        let count = |image: &str| self.manifest(image)["layers"].as_array().unwrap().len();
        count(image) - count("base:1")
    }
}

fn read(tar: &[u8]) -> Tree {
    let mut archive = tar::Archive::new(tar);
    let mut tree = Tree::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry
            .path()
            .unwrap()
            .to_string_lossy()
            .trim_end_matches('/')
            .to_owned();
        let header = entry.header();
        let seen = Seen {
            kind: match header.entry_type() {
                tar::EntryType::Directory => 'd',
                tar::EntryType::Symlink => 'l',
                tar::EntryType::Link => 'h',
                _ => 'f',
            },
            mode: header.mode().unwrap() & 0o7777,
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            mtime: header.mtime().unwrap(),
            link: entry
                .link_name()
                .unwrap()
                .map_or_else(String::new, |l| l.to_string_lossy().into_owned()),
            content: Vec::new(),
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        tree.insert(path, Seen { content, ..seen });
    }
    tree
}

impl World {
    /// Lets crane put a layer on top of an image.
    pub fn crane_append(&self, base: &str, layer: &Path, image: &str) {
        let (base, image) = (self.image(base), self.image(image));
        let layer = layer.display().to_string();
        self.crane(&["append", "-b", &base, "-f", &layer, "-t", &image]);
    }

    /// Lets crane read an image from a file and push it.
    pub fn crane_push(&self, from: &Path, to: &str) {
        self.crane(&["push", &from.display().to_string(), to]);
    }
}

impl World {
    /// Lets crane write an image into a file (`tarball`) or directory (`oci`).
    pub fn crane_pull(&self, format: &str, image: &str, to: &Path) {
        let image = self.image(image);
        let to = to.display().to_string();
        self.crane(&["pull", "--format", format, &image, &to]);
    }

    /// Takes an image's layers away from the registry until the value is dropped.
    pub fn hide_layers(&self, image: &str) -> Hidden {
        let blobs = self
            .dir
            .path()
            .join("registry/docker/registry/v2/blobs/sha256");
        let layers = self.manifest(image)["layers"].as_array().unwrap().clone();
        let files = layers.iter().map(|layer| {
            let hex = &layer["digest"].as_str().unwrap()["sha256:".len()..];
            blobs.join(&hex[..2]).join(hex).join("data")
        });
        Hidden(
            files
                .map(|file| {
                    let away = file.with_extension("away");
                    fs::rename(&file, &away).unwrap();
                    (file, away)
                })
                .collect(),
        )
    }
}

/// See [`World::hide_layers`].
pub struct Hidden(Vec<(PathBuf, PathBuf)>);

impl Drop for Hidden {
    fn drop(&mut self) {
        for (file, away) in &self.0 {
            let _ = fs::rename(away, file);
        }
    }
}
