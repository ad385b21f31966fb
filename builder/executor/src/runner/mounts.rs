//! `RUN --mount`: cache, tmpfs, bind, secret and ssh.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_dockerfile::mount::{MountKind, Sharing as SharingOption};
use kiln_sandbox::users::{MORE_IDS, Owners};
use kiln_sandbox::{Access, Bind, Tmpfs};
use kiln_store::{CacheGuard, Digest, Scratch, Sharing};

use super::agent::Forward;
use super::copied::write_copy_of;
use super::copy::{self, Owner, Place};
use super::{NotKept, Report, Session, StepError, io_error};
use crate::cache;
use crate::cache::key::StageKeys;
use crate::layer::view::{Found, View};
use crate::plan::{self, From, Mount, Run};

/// Mode of a secret's file without `mode=` (BuildKit).
const SECRET_MODE: u32 = 0o400;
/// Where the sockets of agents are without `target=` (BuildKit), with a number behind.
const AGENTS: &str = "/run/buildkit/ssh_agent.";
/// Mode of such a socket without `mode=` (BuildKit).
const AGENT_MODE: u32 = 0o600;
/// Mode of a cache's directory without `mode=` (BuildKit).
const CACHE_MODE: u32 = 0o755;
/// The bits of a mode that say who may do what.
const PERMISSIONS: u32 = 0o777;
/// Others read a directory and enter it.
const FOR_OTHERS: u32 = 0o005;

/// How often a command that waits for a cache looks whether it is free.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the mounts of a `RUN` add to its step, and what has to live until it ends.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) binds: Vec<Bind>,
    pub(super) tmpfs: Vec<Tmpfs>,
    pub(super) env: Vec<(String, String)>,
    /// Where the first agent is: `SSH_AUTH_SOCK`, where the image does not set it.
    pub(super) agent: Option<String>,
    caches: Vec<(String, CacheGuard)>,
    agents: Vec<Forward>,
    /// How many agents were asked for, those that are not given included.
    ssh: usize,
    scratch: Vec<Scratch>,
}

impl Mounts {
    pub(super) fn keep(&mut self, scratch: Scratch) {
        self.scratch.push(scratch);
    }

    /// The directories of caches, which keep what is done there.
    pub(super) fn caches(&self) -> Vec<PathBuf> {
        let paths = self.caches.iter().map(|(_, guard)| guard.path().to_owned());
        paths.collect()
    }

    /// Of several mounts on one place the last one shows.
    fn replace(&mut self, target: &Path) {
        self.binds.retain(|bind| bind.target != target);
        self.tmpfs.retain(|tmpfs| tmpfs.target != target);
    }

    fn bind(&mut self, source: PathBuf, target: &str, read_only: bool) {
        self.replace(Path::new(target));
        self.binds.push(if read_only {
            Bind::read_only(source, target)
        } else {
            Bind::writable(source, target)
        });
    }
}

impl<'a> Session<'a> {
    pub(super) fn mount(
        &self,
        mount: &Mount,
        mounts: &mut Mounts,
        report: Report<'_>,
    ) -> Result<(), StepError> {
        let options = &mount.options;
        match (options.kind, &mount.target) {
            (MountKind::Secret, _) => self.secret(mount, mounts),
            (MountKind::Cache, Some(target)) => self.cache(mount, (target, mounts), report),
            (MountKind::Ssh, _) => self.agent(mount, mounts),
            (MountKind::Tmpfs, Some(target)) => {
                let target = PathBuf::from(target);
                mounts.replace(&target);
                mounts.tmpfs.push(Tmpfs {
                    target,
                    size: options.size,
                    access: match options.read_only {
                        true => Access::ReadOnly,
                        false => Access::ReadWrite,
                    },
                    mode: 0o1777,
                });
                Ok(())
            }
            (MountKind::Bind, Some(target)) => self.bind_mount(mount, target, mounts, report),
            (kind, _) => Err(StepError::Unsupported {
                what: format!("RUN --mount=type={}", kind.name()),
                instead: "give it a target",
            }),
        }
    }

    /// Takes the caches of a command, in the order of their names: two commands that each want what
    /// the other has would wait for ever.
    pub(super) fn take_caches(&self, run: &Run, mounts: &mut Mounts) -> Result<(), StepError> {
        let ladder = self.ladder.as_ref();
        let has_mounts = ladder.is_some_and(|ladder| ladder.chosen.has_mounts());
        let wanted = run.mounts.iter().filter_map(|mount| {
            let target = mount.target.as_deref()?;
            let sharing = match mount.options.sharing {
                // A copy stands for it, and only one can be copied back.
                SharingOption::Shared if !has_mounts => Sharing::Locked,
                SharingOption::Shared => Sharing::Shared,
                SharingOption::Private => Sharing::Private,
                SharingOption::Locked => Sharing::Locked,
            };
            let is_cache = mount.options.kind == MountKind::Cache;
            is_cache.then(|| (self.cache_name(mount, target), sharing))
        });
        let mut wanted: Vec<(String, Sharing)> = wanted.collect();
        wanted.sort_by(|(one, _), (other, _)| one.cmp(other));
        // At two places of one command it is one cache, and the stricter word counts.
        wanted.dedup_by(|(later, stricter), (first, sharing)| {
            let is_one = later == first;
            if is_one && strictness(*stricter) > strictness(*sharing) {
                *sharing = *stricter;
            }
            is_one
        });
        for (name, sharing) in wanted {
            let guard = loop {
                match self.store.try_cache_mount(&name, sharing)? {
                    Some(guard) => break guard,
                    None if self.check_cancelled().is_err() => return Err(StepError::Cancelled),
                    None => std::thread::sleep(LOOK_EVERY),
                }
            };
            mounts.caches.push((name, guard));
        }
        Ok(())
    }

    /// Shows a cache that was taken, with what it starts with.
    fn cache(
        &self,
        mount: &Mount,
        (target, mounts): (&str, &mut Mounts),
        report: Report<'_>,
    ) -> Result<(), StepError> {
        let options = &mount.options;
        let identity = self.cache_name(mount, target);
        let what = || format!("cannot prepare the cache {identity}");
        let taken = mounts.caches.iter().find(|(name, _)| *name == identity);
        let Some(path) = taken.map(|(_, guard)| guard.path().to_owned()) else {
            return Err(io_error(what())(io::ErrorKind::NotFound.into()));
        };
        // Another command may look at the same moment whether it is new.
        let alone = self.store.cache_preparation(&identity)?;
        let is_new = fs::read_dir(&path)
            .map_err(io_error(what()))?
            .next()
            .is_none();
        if is_new && mount.from != From::Context {
            let origin = self.origin(&mount.from, mounts, report)?;
            let found = origin.find(options.source.as_deref())?;
            self.write_copy_for(&origin.view, (Owner::Kept, &found.path), &path)
                .map_err(io_error(what()))?;
            if let Some(dir) = origin.dir {
                self.withhold(&dir.join(&found.path), &path)?;
            }
        } else if is_new {
            own(
                &path,
                options.mode.unwrap_or(CACHE_MODE),
                (options.uid, options.gid),
            )
            .map_err(io_error(what()))?;
        }
        drop(alone);
        mounts.bind(path, target, options.read_only);
        Ok(())
    }

    /// The name of a cache in the store. What a cache starts with is part of it (BuildKit): the files
    /// of a stage or image, or the mode and owner that were asked for. What one user cannot write
    /// another one does not get.
    fn cache_name(&self, mount: &Mount, target: &str) -> String {
        let options = &mount.options;
        let mut identity = mount.identity.as_deref().unwrap_or(target).to_owned();
        if mount.from == From::Context
            && (options.mode, options.uid, options.gid) != (None, None, None)
        {
            let mode = options.mode.unwrap_or(CACHE_MODE) & PERMISSIONS;
            let (uid, gid) = (options.uid.unwrap_or(0), options.gid.unwrap_or(0));
            identity.push_str(&format!(" with mode {mode:o} of {uid}:{gid}"));
        }
        let files = match &mount.from {
            From::Stage(index) => self.cache.keys.get(index).and_then(StageKeys::last),
            From::Image(key) => {
                let image = self.images.get(key);
                image.map(|image| {
                    let layers = image.diff_ids().flat_map(|layer| layer.bytes());
                    Digest::of(&layers.collect::<Vec<u8>>())
                })
            }
            From::Context | From::Named(_) | From::Scratch => None,
        };
        let source = plan::absolute(options.source.as_deref().unwrap_or("/"), "/");
        let source = source.trim_end_matches('/');
        match (files, &mount.from) {
            (Some(files), _) => format!("{identity} of {source}/ in {files}"),
            (None, From::Context) => identity,
            (None, from) => format!("{identity} of {source}/ in {from:?}"),
        }
    }

    fn secret(&self, mount: &Mount, mounts: &mut Mounts) -> Result<(), StepError> {
        let options = &mount.options;
        let identity = mount.identity.clone().unwrap_or_default();
        let Some(secret) = self.request.sandbox.secrets.get(&identity) else {
            if options.required {
                return Err(StepError::Secret(identity));
            }
            // Without `required` a missing secret is no error (the reference manual's words); its
            // variable is there, empty.
            let empty = |name: &String| (name.clone(), String::new());
            mounts.env.extend(options.env.as_ref().map(empty));
            return Ok(());
        };
        if let Some(name) = &options.env {
            mounts.env.push((
                name.clone(),
                String::from_utf8_lossy(&secret.0).into_owned(),
            ));
        }
        if let Some(target) = &mount.target {
            let what = || format!("cannot prepare the secret {identity}");
            let scratch = self.store.scratch()?;
            let file = scratch.path().join("secret");
            fs::write(&file, &secret.0).map_err(io_error(what()))?;
            own(
                &file,
                options.mode.unwrap_or(SECRET_MODE),
                (options.uid, options.gid),
            )
            .map_err(io_error(what()))?;
            mounts.bind(file, target, true);
            mounts.keep(scratch);
        }
        Ok(())
    }

    /// A bind shows what is in the context, a stage or an image; what a command writes there is
    /// thrown away.
    fn bind_mount(
        &self,
        mount: &Mount,
        target: &str,
        mounts: &mut Mounts,
        report: Report<'_>,
    ) -> Result<(), StepError> {
        let origin = self.origin(&mount.from, mounts, report)?;
        let source = mount.options.source.as_deref();
        let read = || format!("cannot read {} of {}", source.unwrap_or("/"), origin.name);
        let found = origin.find(source)?;
        if mount.from == From::Context {
            self.refuse_hidden(&found.path)?;
        }
        let at_hand = if found.node.is_dir() {
            found.host_dir()
        } else {
            found.host()
        };
        // A checkout has its user's owners; in BuildKit the context is root's.
        let owner = match mount.from {
            From::Context | From::Named(_) => Owner::Root,
            From::Stage(_) | From::Image(_) | From::Scratch => Owner::Kept,
        };
        // The mode of its own folder does not count there either: a command of any user reads it.
        let is_root = owner == Owner::Root && found.path.as_os_str().is_empty();
        if let Some(host) = at_hand
            && mount.options.read_only
            && origin.view.is_complete()
            && (!is_root || is_open(host).map_err(io_error(read()))?)
            && (owner == Owner::Kept || is_roots(host).map_err(io_error(read()))?)
        {
            mounts.bind(host.to_owned(), target, true);
            return Ok(());
        }
        let scratch = self.store.scratch()?;
        let copy = scratch.path().join("bind");
        fs::create_dir(&copy).map_err(io_error(read()))?;
        self.write_copy_for(&origin.view, (owner, &found.path), &copy)
            .map_err(io_error(read()))?;
        if let Some(dir) = origin.dir {
            self.withhold(&dir.join(&found.path), &copy)?;
        }
        let copied = if found.node.is_dir() {
            copy
        } else {
            copy.join(found.path.file_name().unwrap_or_default())
        };
        mounts.bind(copied, target, mount.options.read_only);
        mounts.keep(scratch);
        Ok(())
    }

    /// A copy of files for a command, which are those that keys stand for, or nothing more is kept.
    fn write_copy_for(
        &self,
        view: &View,
        (owner, path): (Owner, &Path),
        to: &Path,
    ) -> io::Result<()> {
        let written = write_copy_of((view, owner), path, to)?;
        if !cache::are_unchanged(&self.cache.files(), &written) {
            self.keep_nothing(NotKept::Changed);
        }
        Ok(())
    }

    /// What RUN must not see at its own path is not to be seen at another one either.
    fn refuse_hidden(&self, path: &Path) -> Result<(), StepError> {
        let context = &self.request.context.dir;
        let path = context.join(path);
        let hidden = self.request.sandbox.hidden.iter();
        // A context that was fetched lies in the executor's own directory.
        let mut within = hidden.filter(|hidden| hidden.starts_with(context) && *hidden != context);
        if !within.any(|hidden| path.starts_with(hidden)) {
            return Ok(());
        }
        Err(StepError::Unsupported {
            what: format!(
                "binding {}, which holds credentials of this pod or the executor's own files",
                path.display()
            ),
            instead: "give the command what it needs with --secret",
        })
    }

    fn origin(
        &self,
        from: &From,
        mounts: &mut Mounts,
        report: Report<'_>,
    ) -> Result<Origin<'a>, StepError> {
        let (view, name) = match from {
            From::Context | From::Named(_) => {
                let folder = self.folder(from)?;
                return Ok(Origin {
                    view: folder.view(),
                    ignore_file: folder.ignore_file(),
                    dir: Some(folder.dir),
                    name: folder.name,
                });
            }
            From::Stage(index) => (self.stage_view(*index, report)?, "the stage".to_owned()),
            From::Image(key) => (self.image_view(key, report)?, format!("image {}", key.name)),
            From::Scratch => {
                let empty = self.store.scratch()?;
                let view = View::plain(empty.path().to_owned());
                mounts.keep(empty);
                (view, "scratch".to_owned())
            }
        };
        Ok(Origin {
            view,
            name,
            ignore_file: None,
            dir: None,
        })
    }

    /// Lets the command talk to an agent, through a socket that belongs to its user.
    fn agent(&self, mount: &Mount, mounts: &mut Mounts) -> Result<(), StepError> {
        let options = &mount.options;
        let identity = mount.identity.clone().unwrap_or_default();
        let number = mounts.ssh;
        mounts.ssh += 1;
        let target = mount
            .target
            .clone()
            .unwrap_or_else(|| format!("{AGENTS}{number}"));
        // The variable is there without an agent too (BuildKit).
        if number == 0 {
            mounts.agent = Some(target.clone());
        }
        let Some(socket) = self.request.sandbox.agents.get(&identity) else {
            return if options.required {
                Err(StepError::Agent(identity))
            } else {
                Ok(())
            };
        };
        let what = || format!("cannot offer the agent {identity}");
        let scratch = self.store.scratch()?;
        let path = scratch.path().join("agent");
        let offer = Forward::start(&path, socket).map_err(io_error(what()))?;
        own(
            &path,
            options.mode.unwrap_or(AGENT_MODE),
            (options.uid, options.gid),
        )
        .map_err(io_error(what()))?;
        mounts.bind(path, &target, false);
        mounts.agents.push(offer);
        mounts.keep(scratch);
        Ok(())
    }
}

/// Where the files of a mount come from.
struct Origin<'a> {
    view: View,
    /// For messages.
    name: String,
    ignore_file: Option<&'a str>,
    /// The directory of this machine that it is.
    dir: Option<&'a Path>,
}

impl Origin<'_> {
    /// What `source=` names, the root without it.
    fn find(&self, source: Option<&str>) -> Result<Found, StepError> {
        let place = Place {
            view: &self.view,
            ignore_file: self.ignore_file,
            name: &self.name,
            owner: Owner::Kept,
        };
        Ok(copy::find(source.unwrap_or("/"), place)?)
    }
}

fn strictness(sharing: Sharing) -> u8 {
    match sharing {
        Sharing::Shared => 0,
        Sharing::Private => 1,
        Sharing::Locked => 2,
    }
}

/// Whether anyone may read a directory and enter it.
fn is_open(dir: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(dir)?.mode() & FOR_OTHERS == FOR_OTHERS)
}

/// Whether everything at or below a path belongs to root.
fn is_roots(path: &Path) -> io::Result<bool> {
    let stat = fs::symlink_metadata(path)?;
    if (stat.uid(), stat.gid()) != (0, 0) {
        return Ok(false);
    }
    if stat.is_dir() {
        for entry in fs::read_dir(path)? {
            if !is_roots(&entry?.path())? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Gives a file a mode, of which only the permissions count (BuildKit), and an owner.
fn own(path: &Path, mode: u32, (uid, gid): (Option<u32>, Option<u32>)) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode & PERMISSIONS))?;
    if uid.is_some() || gid.is_some() {
        let given = std::os::unix::fs::chown(path, Some(uid.unwrap_or(0)), Some(gid.unwrap_or(0)));
        given.map_err(|error| match Owners::present().are_many() {
            true => error,
            false => io::Error::other(format!("{error}: there is a single user id: {MORE_IDS}")),
        })?;
    }
    Ok(())
}
