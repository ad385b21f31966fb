//! What containers write: kept in a file for each, and passed on to whoever follows.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::desired::Name;
use crate::protocol::{Line, LogWish};

/// A file that is longer starts anew, the old one kept beside it (the kubelet's limit).
const LONGEST_FILE: u64 = 10 << 20;
/// A line that is longer is cut into several (containerd's limit).
const LONGEST_LINE: usize = 16 << 10;

/// The logs of a holder.
#[derive(Debug, Clone)]
pub struct Logs {
    folder: PathBuf,
    lines: broadcast::Sender<Arc<Line>>,
}

impl Logs {
    /// Logs in a folder, which is emptied.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        // What an earlier holder left.
        drop(std::fs::remove_dir_all(&folder));
        let (lines, _) = broadcast::channel(4096);
        Self { folder, lines }
    }

    /// Every line from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        self.lines.subscribe()
    }

    fn file(&self, pod: &Name, container: &str) -> PathBuf {
        let folder = self.folder.join(&pod.namespace).join(&pod.name);
        folder.join(container)
    }

    /// The log of a container, to be written to.
    #[must_use]
    pub fn open(&self, pod: &Name, container: &str) -> Log {
        let path = self.file(pod, container);
        Log(Arc::new(Inner {
            pod: pod.clone(),
            container: container.to_owned(),
            lines: self.lines.clone(),
            file: Mutex::new(Kept::open(path)),
        }))
    }

    /// Removes the logs of a pod.
    pub fn forget(&self, pod: &Name) {
        let folder = self.folder.join(&pod.namespace).join(&pod.name);
        drop(std::fs::remove_dir_all(folder));
    }

    /// The lines that are kept, of the pods that are wanted, pod by pod.
    #[must_use]
    pub fn past(&self, wish: &LogWish) -> Vec<Line> {
        let mut lines = Vec::new();
        for namespace in names(&self.folder) {
            for pod in names(&self.folder.join(&namespace)) {
                let pod = Name::new(&namespace, pod);
                if !is_wanted(wish.pod.as_deref(), &pod.name) {
                    continue;
                }
                let folder = self.folder.join(&namespace).join(&pod.name);
                for container in names(&folder) {
                    let other = wish
                        .container
                        .as_ref()
                        .is_some_and(|name| *name != container);
                    if container.ends_with(".old") || other {
                        continue;
                    }
                    read(&folder, &pod, &container, &mut lines);
                }
            }
        }
        lines
    }
}

/// Whether a pod is meant by a name: its own, or its workload's.
#[must_use]
pub fn is_wanted(wish: Option<&str>, pod: &str) -> bool {
    let Some(wish) = wish else { return true };
    let name = wish.rsplit_once('/').map_or(wish, |(_, name)| name);
    let rest = pod.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn read(folder: &Path, pod: &Name, container: &str, lines: &mut Vec<Line>) {
    for name in [format!("{container}.old"), container.to_owned()] {
        let Ok(file) = File::open(folder.join(name)) else {
            continue;
        };
        for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line);
            let (mark, text) = text.split_at(text.len().min(1));
            lines.push(Line {
                pod: pod.clone(),
                container: container.to_owned(),
                is_error: mark == "!",
                text: text.to_owned(),
            });
        }
    }
}

/// The log of one container, over all of its restarts.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pod: Name,
    container: String,
    lines: broadcast::Sender<Arc<Line>>,
    file: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    lost: bool,
}

impl Kept {
    fn open(path: PathBuf) -> Self {
        let folder = path.parent().map(std::fs::create_dir_all);
        let file = folder
            .and_then(Result::ok)
            .and_then(|()| File::options().create(true).append(true).open(&path).ok());
        let length = file.as_ref().and_then(|file| file.metadata().ok());
        Self {
            path,
            length: length.map_or(0, |found| found.len()),
            file,
            lost: false,
        }
    }

    /// Whether the line is kept now.
    fn write(&mut self, mark: u8, text: &[u8]) -> bool {
        let mut line = vec![mark];
        line.extend_from_slice(text);
        line.push(b'\n');
        if self.length > LONGEST_FILE {
            let mut old = self.path.clone().into_os_string();
            old.push(".old");
            drop(std::fs::rename(&self.path, old));
            *self = Self::open(self.path.clone());
        }
        let written = self
            .file
            .as_mut()
            .is_some_and(|file| file.write_all(&line).is_ok());
        self.length += line.len() as u64;
        written
    }
}

impl Log {
    /// Takes in everything that comes out of a pipe, on a thread of its own.
    pub fn collect(&self, pipe: OwnedFd, is_error: bool) -> std::thread::JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(File::from(pipe));
            let mut line = Vec::new();
            loop {
                line.clear();
                let mut limited = (&mut reader).take(LONGEST_LINE as u64);
                match limited.read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => log.write(line.strip_suffix(b"\n").unwrap_or(&line), is_error),
                }
            }
        })
    }

    /// One line. A full disk loses what is kept, not what is followed, and is told once.
    pub fn write(&self, text: &[u8], is_error: bool) {
        let inner = &self.0;
        let mut kept = inner.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = kept.write(if is_error { b'!' } else { b' ' }, text);
        let newly_lost = !written && !std::mem::replace(&mut kept.lost, !written);
        drop(kept);
        if newly_lost {
            self.tell("its log cannot be kept: the disk may be full", true);
        }
        self.tell(&String::from_utf8_lossy(text), is_error);
    }

    fn tell(&self, text: &str, is_error: bool) {
        let line = Line {
            pod: self.0.pod.clone(),
            container: self.0.container.clone(),
            is_error,
            text: text.to_owned(),
        };
        // Nobody follows.
        drop(self.0.lines.send(Arc::new(line)));
    }
}
