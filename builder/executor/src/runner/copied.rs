//! Copies of files for a command: what cannot be bound as it is.

use std::path::Path;

use super::copy::{self, Place};
use crate::layer::delta::Delta;
use crate::layer::dir::{Form, LayerDir};
use crate::layer::view::View;

/// Copies a file, or what is in a directory, of a view with all metadata.
pub(super) fn write_copy(view: &View, path: &Path, to: &Path) -> std::io::Result<()> {
    write_copy_of((view, copy::Owner::Kept), path, to).map(drop)
}

/// [`write_copy`] with this owner; returns what was copied.
pub(super) fn write_copy_of(
    (view, owner): (&View, copy::Owner),
    path: &Path,
    to: &Path,
) -> std::io::Result<Delta> {
    let place = Place {
        view,
        ignore_file: None,
        name: "the directory",
        owner,
    };
    let delta = copy::whole(path, place).map_err(std::io::Error::other)?;
    let mut dir = LayerDir::open(to, Form::Applied)?;
    dir.write(&delta)?;
    dir.finish()?;
    Ok(delta)
}
