//! A copy of an example with a home folder of its own, so that neither the
//! checkout nor the user's settings have a part in what is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use jiff::Timestamp;
use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};
use tempfile::TempDir;

use crate::error::{AtPath, Error};
use crate::objects::Workload;

/// A project of `examples/` and the edit that a turn of the loop starts with.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// Its folder below `examples/`.
    pub folder: &'static str,
    /// What is done, for the report.
    pub title: &'static str,
    /// The registry hosts that its configuration names, without those of base
    /// images.
    pub hosts: &'static [&'static str],
    /// Further arguments of `kiln`.
    pub args: &'static [&'static str],
    /// The file that is edited.
    pub file: &'static str,
    /// The text in it that each edit replaces.
    pub text: &'static str,
    /// What is deployed.
    pub workload: Workload,
}

/// The article's Go service: one line of Go is edited.
pub const FEED_AGG: Example = Example {
    folder: "feed-agg",
    title: "feed-agg, a Go service with client-go: one edited line under `kiln dev`, warm caches",
    hosts: &["europe-north1-docker.pkg.dev"],
    args: &[],
    file: "main.go",
    text: "feeds, aggregated",
    workload: Workload {
        namespace: "feed-agg",
        name: "feed-agg",
    },
};

/// One COPY onto busybox: one file is edited.
pub const COPY_ONLY: Example = Example {
    folder: "raw-yaml",
    title: "raw-yaml, one COPY onto busybox: one changed file under `kiln dev`",
    hosts: &[],
    args: &[
        "--default-repo=10.77.0.1:5000/bench",
        "--namespace=kiln-bench",
    ],
    file: "index.html",
    text: "plain manifests",
    workload: Workload {
        namespace: "kiln-bench",
        name: "page",
    },
};

/// A copy of an example.
pub struct Project {
    example: Example,
    home: TempDir,
    dir: PathBuf,
}

impl Project {
    /// Copies the example below `examples`, with user-level settings that send
    /// every registry host to the cluster's plain registry.
    pub fn copy(examples: &Path, example: Example) -> Result<Self, Error> {
        let home = tempfile::tempdir().at("make a temporary folder in", "/tmp")?;
        let dir = home.path().join("project");
        copy(&examples.join(example.folder), &dir)?;
        let settings = home.path().join(".config/kiln/config.yaml");
        let mut text =
            format!("global:\n  insecure-registries: [\"{PLAIN_REGISTRY}\"]\n  registries:\n");
        for host in example
            .hosts
            .iter()
            .chain(&["docker.io", "gcr.io", "mirror.gcr.io"])
        {
            text.push_str(&format!(
                "    {host}: {{host: \"{PLAIN_REGISTRY}\", insecure: true}}\n"
            ));
        }
        write(&settings, &text)?;
        Ok(Self { example, home, dir })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is a copy of.
    pub fn example(&self) -> &Example {
        &self.example
    }

    /// A command in the project's folder and the cluster's network, with the
    /// project's own home.
    pub fn command(&self, cluster: &Cluster, program: &Path) -> Command {
        let mut command = cluster.command(program);
        command
            .current_dir(&self.dir)
            .env("HOME", self.home.path())
            .env("USER", "developer")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("DOCKER_CONFIG")
            .stdin(Stdio::null());
        command
    }

    /// Replaces text in a file.
    pub fn replace(&self, file: &str, from: &str, to: &str) -> Result<(), Error> {
        let path = self.dir.join(file);
        let text = read(&path)?;
        if !text.contains(from) {
            return Err(Error::NothingToEdit {
                path,
                text: from.to_owned(),
            });
        }
        write(&path, &text.replace(from, to))
    }
}

/// Makes the example's edits, each different from all before.
pub struct Editor {
    file: PathBuf,
    original: String,
    text: &'static str,
    started: Timestamp,
    count: u32,
}

impl Editor {
    /// For one copy of an example.
    pub fn new(project: &Project) -> Result<Self, Error> {
        let Example { file, text, .. } = project.example;
        let path = project.dir.join(file);
        let original = read(&path)?;
        if !original.contains(text) {
            return Err(Error::NothingToEdit {
                path,
                text: text.to_owned(),
            });
        }
        Ok(Self {
            file: path,
            original,
            text,
            started: now(),
            count: 0,
        })
    }

    /// Saves the next edit and returns the file's mtime.
    pub fn save(&mut self) -> Result<Timestamp, Error> {
        self.count += 1;
        // Compiler caches outlive a bench; what an earlier one wrote is no edit.
        let edited = format!("{}, edit {} of {}", self.text, self.count, self.started);
        write(&self.file, &self.original.replace(self.text, &edited))?;
        let modified = fs::metadata(&self.file).and_then(|metadata| metadata.modified());
        let modified = modified.at("read the mtime of", &self.file)?;
        Ok(Timestamp::try_from(modified).unwrap_or_else(|_| now()))
    }
}

/// The time now, in the form of the events' times.
pub fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).at("read", path)
}

/// Writes a file and the folders that lead to it.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at("make the folder", folder)?;
    }
    fs::write(path, text).at("write", path)
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).at("make the folder", to)?;
    for entry in fs::read_dir(from).at("list", from)? {
        let entry = entry.at("list", from)?;
        let target = to.join(entry.file_name());
        if entry.file_type().at("look at", entry.path())?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).at("copy", entry.path())?;
        }
    }
    Ok(())
}
