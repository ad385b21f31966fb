//! `RUN`: a command in a sandbox over the layers of its stage.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_dockerfile::instruction::Network as NetworkFlag;
use kiln_dockerfile::mount::MountKind;
use kiln_sandbox::{Bind, Cancel, Exit, Network, Process, Root, Rung};
use kiln_store::{Digest, LayerSlot, Scratch};

use super::copied::write_copy;
use super::identity::{self, Identity};
use super::mounts::Mounts;
use super::stage::Made;
use super::{Built, Current, NotKept, Report, RunError, Session, StepError, io_error};
use crate::cache::context::mentions;
use crate::cache::key::{self, Reader};
use crate::image::DEFAULT_PATH;
use crate::layer::upper;
use crate::layer::view::{Tree, View};
use crate::plan::{Mount, Run, Stage};
use crate::progress::{Progress, StepId};
use crate::remote::Want;
use crate::request::ContextInRun;

/// The file mode creation mask of commands (runc's default).
const UMASK: u32 = 0o022;

/// With less space a command that writes something fails, and seldom says why.
const ALMOST_FULL: u64 = 1 << 20;

/// The space that is left in a file system.
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// The directories of one overlay.
struct Overlay {
    upper: PathBuf,
    work: PathBuf,
    scratch: PathBuf,
    /// Copies of the files by which the network is found.
    network: PathBuf,
    /// All of the above lie in it.
    space: Arc<Scratch>,
}

impl Session<'_> {
    pub(super) fn run(
        &self,
        at: Current<'_>,
        (reader, run): (Reader, &Run),
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<Made, RunError> {
        let executed = self.execute(at, (reader, run), built, report);
        let (exit, made) = executed.map_err(|error| match error {
            StepError::Sandbox(kiln_sandbox::Error::Cancelled) | StepError::Cancelled => {
                RunError::Cancelled
            }
            error => at.failed(error),
        })?;
        if exit.success() {
            return Ok(made);
        }
        if let Some(free) = free_bytes(self.store.root()).filter(|free| *free < ALMOST_FULL) {
            report(Progress::Warning(format!(
                "the file system of the store {} is full: {free} bytes are free",
                self.store.root().display()
            )));
        }
        Err(RunError::Command {
            position: at.step.position,
            source_line: at.step.source.clone(),
            end: match exit {
                Exit::Code(code) => format!("exit code {code}"),
                Exit::Signal(signal) => format!("signal {signal}"),
            },
            code: exit.code(),
        })
    }

    fn execute(
        &self,
        at: Current<'_>,
        (reader, run): (Reader, &Run),
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<(Exit, Made), StepError> {
        let rung = self
            .ladder
            .as_ref()
            .map_or(Rung::NoRun, |ladder| ladder.chosen);
        if rung == Rung::NoRun {
            return Err(self.no_mounts(rung));
        }
        let mut view = self.load(built, Want::Files, report)?;
        if rung != Rung::InPlace {
            self.show_context(rung, at.stage, built)?;
            view = built.view().map_err(io_error("cannot read the image"))?;
        }
        let identity = identity::user(&view, &run.user)?;
        let mut mounts = Mounts::default();
        self.take_caches(run, &mut mounts)?;
        // Secrets and agents lie over what else is mounted at their places (BuildKit).
        let is_on_top =
            |mount: &&Mount| matches!(mount.options.kind, MountKind::Secret | MountKind::Ssh);
        let (on_top, others): (Vec<_>, Vec<_>) = run.mounts.iter().partition(is_on_top);
        for mount in others.into_iter().chain(on_top) {
            self.mount(mount, &mut mounts, report)?;
        }
        if let Some((name, content)) = &run.script {
            self.script(name, content, &mut mounts)?;
        }
        // What lies within another mount is mounted after it.
        mounts
            .binds
            .sort_by_key(|bind| bind.target.components().count());
        let process = process(run, &identity, &mounts);
        let result = if rung.has_mounts() {
            let mut lines = Lines::new(at.id, report);
            let (step, overlay) = self.overlay_step(run, process, &mut mounts, built)?;
            let exit = self.start(rung, &step, &mut lines)?;
            let key = self.key(reader).filter(|_| exit.success());
            (exit, self.collect(overlay, key, built)?)
        } else {
            let (root, before) = self.enter(rung, built, &mounts, report)?;
            let step = self.plain_step(root, run, process, &mut mounts);
            let exit = self.start(rung, &step, &mut Lines::new(at.id, report))?;
            (exit, self.leave(rung, before, built)?)
        };
        drop(mounts);
        Ok(result)
    }

    fn start(
        &self,
        rung: Rung,
        step: &kiln_sandbox::Step,
        lines: &mut Lines<'_>,
    ) -> Result<Exit, StepError> {
        let cancel = self.cancel.clone().map_or_else(Cancel::new, Ok);
        let cancel = cancel.map_err(io_error("cannot prepare the sandbox"))?;
        let exit = kiln_sandbox::run(rung, step, &cancel, &mut |_, bytes| lines.push(bytes))?;
        lines.finish();
        Ok(exit)
    }

    /// A step in a root of its own: the layers below, a new directory on top.
    fn overlay_step(
        &self,
        run: &Run,
        process: Process,
        mounts: &mut Mounts,
        built: &mut Built,
    ) -> Result<(kiln_sandbox::Step, Overlay), StepError> {
        let lowers = self.lowers(built)?;
        let overlay = self.overlay()?;
        let root = Root::Overlay {
            lowers,
            upper: overlay.upper.clone(),
            work: overlay.work.clone(),
            scratch: overlay.scratch.clone(),
        };
        let mut step = kiln_sandbox::Step::new(root, process);
        step.volumes.clone_from(&self.request.sandbox.volumes);
        step.hidden.clone_from(&self.request.sandbox.hidden);
        step.binds = Bind::network_files(&overlay.network)
            .map_err(io_error("cannot copy the files of the network"))?;
        let grafts = built.grafts.iter();
        step.binds.extend(
            grafts
                .filter(|(at, _)| !self.request.sandbox.volumes.contains(at))
                .map(|(at, dir)| Bind::writable(dir.clone(), at.clone())),
        );
        step.binds.append(&mut mounts.binds);
        step.tmpfs = std::mem::take(&mut mounts.tmpfs);
        if run.network == NetworkFlag::None {
            step.network = Network::None;
        }
        Ok((step, overlay))
    }

    /// A step in a plain directory; the sandbox refuses by name what it cannot do there.
    fn plain_step(
        &self,
        root: Root,
        run: &Run,
        process: Process,
        mounts: &mut Mounts,
    ) -> kiln_sandbox::Step {
        let mut step = kiln_sandbox::Step::new(root, process);
        // In place they are there by themselves; in a chroot they are not, as the log says.
        if step.root == Root::InPlace {
            step.volumes.clone_from(&self.request.sandbox.volumes);
        }
        // Binds stand there as copies; the rest is refused by name.
        step.tmpfs = std::mem::take(&mut mounts.tmpfs);
        if run.network == NetworkFlag::None {
            step.network = Network::None;
        }
        step
    }

    fn no_mounts(&self, rung: Rung) -> StepError {
        let reasons = self.ladder.as_ref().map_or_else(String::new, |ladder| {
            ladder
                .tried
                .iter()
                .map(|(rung, why)| format!("\n  {rung}: {why}"))
                .collect()
        });
        StepError::Unsupported {
            what: format!(
                "RUN with the isolation {rung}, which is all that this pod allows{reasons}"
            ),
            instead: "use one of the settings named there",
        }
    }

    fn overlay(&self) -> Result<Overlay, StepError> {
        let space = Arc::new(self.store.scratch()?);
        Ok(Overlay {
            upper: space.directory("upper")?,
            work: space.directory("work")?,
            scratch: space.directory("scratch")?,
            network: space.directory("network")?,
            space,
        })
    }

    /// What the command changed, without the paths that are never part of an image. The directory
    /// stays in the store under the step's key.
    fn collect(
        &self,
        overlay: Overlay,
        key: Option<Digest>,
        built: &mut Built,
    ) -> Result<Made, StepError> {
        let mut upper = overlay.upper;
        let mut kept = None;
        if let Some(key) = key.filter(|_| self.cache.is_local()) {
            let name = key::directory(key, &self.stamp(), &upper);
            if let LayerSlot::Fill(fill) = self.store.layer_slot(&name)? {
                fill.adopt(&upper)?;
                upper = fill.commit()?;
                kept = Some(name);
            }
        }
        let mut delta =
            upper::read(&upper).map_err(io_error("cannot read what the command changed"))?;
        delta.items.retain(|path, _| !self.is_excluded(path));
        let delta = self.owned(delta, built)?;
        built.scratch.push(overlay.space);
        Ok(Made {
            delta,
            tree: Some(Tree::Layer(upper)),
            kept,
        })
    }

    fn script(&self, name: &str, content: &str, mounts: &mut Mounts) -> Result<(), StepError> {
        let scratch = self.store.scratch()?;
        let file = scratch.path().join("script");
        fs::write(&file, content)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
            .map_err(io_error("cannot write the script"))?;
        mounts
            .binds
            .push(Bind::read_only(file, Path::new("/dev/pipes").join(name)));
        mounts.keep(scratch);
        Ok(())
    }

    /// Makes the context visible at its own path, as a copy that the command may change, where
    /// the stage mentions that path and the image has nothing of its own there.
    fn show_context(&self, rung: Rung, stage: &Stage, built: &mut Built) -> Result<(), StepError> {
        for volume in &self.request.sandbox.volumes {
            if rung.has_mounts() && !built.grafts.iter().any(|(at, _)| at == volume) {
                built.grafts.push((volume.clone(), volume.clone()));
            }
        }
        let context = &self.request.context;
        let dir = &context.dir;
        let mut volumes = self.request.sandbox.volumes.iter();
        if context.in_run == ContextInRun::Hidden
            || volumes.any(|volume| rung.has_mounts() && dir.starts_with(volume))
            || !mentions(stage, dir)
        {
            return Ok(());
        }
        let view = built.image();
        let found = view.find(dir).map_err(io_error("cannot read the image"))?;
        if let Some(found) = found {
            let is_empty = found.node.is_dir()
                && view
                    .names(&found)
                    .map_err(io_error("cannot read the image"))?
                    .is_empty();
            if !is_empty {
                // The image's own directory counts, as in Docker.
                built.grafts.retain(|(at, _)| at != dir);
                return Ok(());
            }
        }
        // The key of the command does not say what is in the context where the plan took it for
        // covered, and an earlier command has taken away what covered it.
        let sight = self.cache.sights.get(&stage.index);
        if sight.is_none_or(|sight| sight.context.is_none()) {
            self.keep_nothing(NotKept::Uncovered);
        }
        if built.grafts.iter().any(|(at, _)| at == dir) {
            return Ok(());
        }
        let scratch = Arc::new(self.store.scratch()?);
        write_copy(&View::plain(dir.clone()), Path::new(""), scratch.path()).map_err(io_error(
            format!("cannot copy the context {}", dir.display()),
        ))?;
        self.withhold(dir, scratch.path())?;
        built.grafts.push((dir.clone(), scratch.path().to_owned()));
        built.scratch.push(scratch);
        Ok(())
    }

    /// Takes out of a copy of the context what RUN must not see.
    pub(super) fn withhold(&self, context: &Path, copy: &Path) -> Result<(), StepError> {
        for path in self.request.sandbox.hidden_below(context) {
            kiln_sandbox::Rootfs::open(copy)
                .and_then(|root| root.remove(path))
                .map_err(std::io::Error::other)
                .map_err(io_error(format!("cannot hide {}", path.display())))?;
        }
        Ok(())
    }
}

fn process(run: &Run, identity: &Identity, mounts: &Mounts) -> Process {
    let mut env: Vec<(OsString, OsString)> = run
        .env
        .iter()
        .filter(|(name, _)| !run.proxies.iter().any(|(proxy, _)| proxy == name))
        .chain(&run.proxies)
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    for (name, value) in &mounts.env {
        env.retain(|(known, _)| known != name.as_str());
        env.push((name.into(), OsString::from(value)));
    }
    let has = |env: &[(OsString, OsString)], name: &str| env.iter().any(|(known, _)| known == name);
    if let Some(socket) = mounts
        .agent
        .as_ref()
        .filter(|_| !has(&env, "SSH_AUTH_SOCK"))
    {
        env.push(("SSH_AUTH_SOCK".into(), socket.into()));
    }
    if !has(&env, "PATH") {
        env.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    // An empty one counts as none (runc).
    env.retain(|(name, value)| name != "HOME" || !value.is_empty());
    if !has(&env, "HOME") {
        let home = identity.home.clone().unwrap_or_else(|| "/".to_owned());
        env.push(("HOME".into(), home.into()));
    }
    Process {
        argv: run.argv.iter().map(OsString::from).collect(),
        env,
        cwd: PathBuf::from(&run.cwd),
        user: identity.user.clone(),
        umask: UMASK,
    }
}

/// Cuts output into lines for the log.
struct Lines<'a> {
    id: &'a StepId,
    report: Report<'a>,
    rest: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(id: &'a StepId, report: Report<'a>) -> Self {
        Self {
            id,
            report,
            rest: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line[..end]);
        }
    }

    fn finish(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let line = text.trim_end_matches('\r').to_owned();
        (self.report)(Progress::Output {
            step: self.id.clone(),
            line,
        });
    }
}
