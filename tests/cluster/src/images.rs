//! The base images that stand in for public ones: made from this machine's own
//! files, once, straight into the storage folder of the plain registry.

mod layer;
mod recipes;
mod storage;

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{AtPath, Error};
use crate::layout::Layout;

/// Makes the images that are not in the cache and gives their storage folder.
pub(crate) fn build(layout: &Layout, report: &mut dyn FnMut(&str)) -> Result<PathBuf, Error> {
    let key = recipes::key()?;
    let home = layout.images().join(&key);
    if home.exists() {
        return Ok(home);
    }
    report("making base images");
    let work = home.with_extension("building");
    if work.exists() {
        fs::remove_dir_all(&work).at("remove", &work)?;
    }
    fs::create_dir_all(&work).at("create", &work)?;
    let storage = storage::Storage::create(&work);
    for image in recipes::all()? {
        storage.add(&image)?;
    }
    fs::rename(&work, &home).at("rename", &work)?;
    Ok(home)
}

/// Fills a registry's storage with the images: blobs by hard link, as a registry
/// never changes one, and everything else by copy.
pub(crate) fn seed(images: &Path, storage: &Path) -> Result<(), Error> {
    fs::create_dir_all(storage).at("create", storage)?;
    for entry in fs::read_dir(images).at("list", images)? {
        let entry = entry.at("list", images)?;
        let (from, to) = (entry.path(), storage.join(entry.file_name()));
        if from.is_dir() {
            seed(&from, &to)?;
        } else if entry.file_name() != "data" || fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).at("copy", &from)?;
        }
    }
    Ok(())
}
