//! The directories of a pod: volumes, network files, the roots of its containers.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{HostPathVolumeSource, PodSpec, Volume, VolumeMount};
use kiln_sandbox::step::{Access, Bind};

use crate::launch::{self, Facts, LaunchError, VolumeFiles};

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file or folder.
    #[error("cannot make {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the volume refers to.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A path of the machine.
    #[error("hostPath {path}: {why}")]
    HostPath {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path below a volume that leads out of it.
    #[error("subPath {0} leads out of its volume")]
    Outside(String),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { path, source }
}

/// Where a pod's things are.
#[derive(Debug, Clone)]
pub struct PodFolder {
    /// The pod's own folder.
    pub own: PathBuf,
    /// The folder of kept claims.
    pub claims: PathBuf,
}

impl PodFolder {
    /// Makes the volumes of a pod; existing files of data are brought up to date.
    ///
    /// # Errors
    /// [`VolumeError`]
    pub fn prepare(&self, spec: &PodSpec, facts: &Facts<'_>) -> Result<(), VolumeError> {
        let security = spec.security_context.as_ref();
        let group = security.and_then(|context| context.fs_group);
        let group = group.and_then(|group| u32::try_from(group).ok());
        for volume in spec.volumes.iter().flatten() {
            if let Some(files) = launch::volume_files(volume, facts)? {
                write_files(&self.volume(volume, facts), &files)?;
            } else if let Some(source) = &volume.host_path {
                check_host_path(source)?;
            } else {
                let folder = self.volume(volume, facts);
                if !folder.is_dir() {
                    fs::create_dir_all(&folder).map_err(at(&folder))?;
                    let mode = if group.is_some() { 0o2777 } else { 0o777 };
                    std::os::unix::fs::chown(&folder, None, group).map_err(at(&folder))?;
                    fs::set_permissions(&folder, fs::Permissions::from_mode(mode))
                        .map_err(at(&folder))?;
                }
            }
        }
        Ok(())
    }

    fn volume(&self, volume: &Volume, facts: &Facts<'_>) -> PathBuf {
        if let Some(source) = &volume.host_path {
            return PathBuf::from(&source.path);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let name = claim.claim_name.replace(launch::POD_NAME, &facts.name.name);
            return self.claims.join(&facts.name.namespace).join(name);
        }
        self.own.join("volumes").join(&volume.name)
    }

    /// What a container sees of the volumes. A missing path below a volume is made.
    ///
    /// # Errors
    /// [`VolumeError`]
    pub fn bind(
        &self,
        mount: &VolumeMount,
        sub_path: &str,
        spec: &PodSpec,
        facts: &Facts<'_>,
    ) -> Result<Bind, VolumeError> {
        let mut volumes = spec.volumes.iter().flatten();
        let volume = volumes
            .find(|volume| volume.name == mount.name)
            .ok_or_else(|| LaunchError::Volume(mount.name.clone()))?;
        let mut source = self.volume(volume, facts);
        if !sub_path.is_empty() {
            source = below(&source, sub_path)?;
        }
        let is_data = launch::volume_files(volume, facts)?.is_some();
        let read_only = mount.read_only == Some(true)
            || is_data
            || volume
                .persistent_volume_claim
                .as_ref()
                .is_some_and(|claim| claim.read_only == Some(true));
        Ok(Bind {
            source,
            target: PathBuf::from(&mount.mount_path),
            access: if read_only {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            },
        })
    }
}

/// A path in a volume; neither `..` nor a link of the volume may lead out of it.
fn below(volume: &Path, path: &str) -> Result<PathBuf, VolumeError> {
    let outside = || VolumeError::Outside(path.to_owned());
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(plain) {
        return Err(outside());
    }
    let full = volume.join(relative);
    if !full.exists() {
        fs::create_dir_all(&full).map_err(at(&full))?;
    }
    let real = full.canonicalize().map_err(at(&full))?;
    let root = volume.canonicalize().map_err(at(volume))?;
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(outside())
    }
}

/// Checks and makes what `type` asks for (Kubernetes documentation, "hostPath").
fn check_host_path(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let fails = |why| VolumeError::HostPath {
        path: source.path.clone(),
        why,
    };
    let is = |right: bool, why| if right { Ok(()) } else { Err(fails(why)) };
    match source.type_.as_deref() {
        Some("DirectoryOrCreate") => fs::create_dir_all(path).map_err(at(path)),
        Some("FileOrCreate") if !path.exists() => fs::write(path, "").map_err(at(path)),
        Some("Directory") => is(path.is_dir(), "there is no such directory"),
        Some("File" | "FileOrCreate") => is(path.is_file(), "there is no such file"),
        _ => is(path.exists(), "it does not exist"),
    }
}

/// Writes files so that readers see all of the old ones or all of the new: they are behind one
/// link that is replaced, as the kubelet has it.
fn write_files(folder: &Path, files: &VolumeFiles) -> Result<(), VolumeError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let current = folder.join("..data");
    let before = fs::read_link(&current).ok();
    let number = before
        .as_ref()
        .and_then(|name| name.to_str()?.strip_prefix("..")?.parse::<u64>().ok())
        .unwrap_or(0);
    let name = format!("..{}", number + 1);
    let fresh = folder.join(&name);
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        fs::write(&target, &file.bytes).map_err(at(&target))?;
        let mode = fs::Permissions::from_mode(file.mode);
        fs::set_permissions(&target, mode).map_err(at(&target))?;
    }
    fs::create_dir_all(&fresh).map_err(at(&fresh))?;
    let link = folder.join("..new");
    drop(fs::remove_file(&link));
    symlink(&name, &link).map_err(at(&link))?;
    fs::rename(&link, &current).map_err(at(&current))?;
    link_names(folder, files)?;
    if let Some(before) = before {
        drop(fs::remove_dir_all(folder.join(before)));
    }
    Ok(())
}

fn link_names(folder: &Path, files: &VolumeFiles) -> Result<(), VolumeError> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: Vec<String> = files.keys().map(first).collect();
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            drop(fs::remove_file(entry.path()));
        }
    }
    for name in wanted {
        let link = folder.join(&name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(&name), &link).map_err(at(&link))?;
        }
    }
    Ok(())
}
