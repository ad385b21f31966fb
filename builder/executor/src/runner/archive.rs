//! `ADD` of archives that lie in the context.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::{self, Given, Place};
use super::{Built, Session, StepError, io_error};
use crate::layer::bounds::{self, Marked};
use crate::layer::delta::Content;
use crate::layer::gunzip::Behind;
use crate::layer::index;
use crate::layer::unpack;
use crate::plan;

/// What `ADD` does with a file, by its content, as BuildKit decides it.
enum Treatment {
    /// A tar, plain or compressed.
    Unpack,
    /// No archive.
    Copy,
}

impl Session<'_> {
    /// Reads the archives among the sources of an `ADD`.
    pub(super) fn archives(
        &self,
        op: &plan::Copy,
        place: Place<'_>,
        built: &mut Built,
    ) -> Result<HashMap<PathBuf, Given>, StepError> {
        let mut archives = HashMap::new();
        for (path, found) in copy::sources(op, place)? {
            let Some(host) = found.host().filter(|_| !found.node.is_dir()) else {
                continue;
            };
            if let (Treatment::Unpack, false) = (treatment(host), archives.contains_key(&path)) {
                let archive = self.unpacked(host, &path, built)?;
                archives.insert(path, archive);
            }
        }
        Ok(archives)
    }

    /// Of a downloaded file what is in it, where that is asked for and it is an archive.
    pub(super) fn perhaps_unpacked(
        &self,
        file: Given,
        op: &plan::Copy,
        built: &mut Built,
    ) -> Result<Given, StepError> {
        let Given::File { name, node } = &file else {
            return Ok(file);
        };
        match &node.content {
            Some(Content::Host(host)) if op.unpack_remote => match treatment(host) {
                Treatment::Unpack => self.unpacked(host, Path::new(name), built),
                Treatment::Copy => Ok(file),
            },
            _ => Ok(file),
        }
    }

    fn unpacked(&self, host: &Path, name: &Path, built: &mut Built) -> Result<Given, StepError> {
        let what = format!("cannot unpack {}", name.display());
        let scratch = Arc::new(self.store.scratch()?);
        let file = File::open(host).map_err(io_error(what.clone()))?;
        let entries = unpack::entries(file, scratch.path());
        let entries = entries.map_err(|error| io_error(what)(io::Error::other(error)))?;
        built.scratch.push(scratch);
        let name = name.display().to_string();
        Ok(Given::Archive { name, entries })
    }
}

fn treatment(host: &Path) -> Treatment {
    let look = || -> io::Result<Treatment> {
        let stream = index::decompress(File::open(host)?, Behind::Ignored)?;
        // What unpacking would refuse is not read here either.
        let mark = Cell::new(bounds::HEADERS);
        let mut archive = tar::Archive::new(Marked::new(stream, &mark));
        Ok(match archive.entries()?.next() {
            Some(Ok(_)) => Treatment::Unpack,
            _ => Treatment::Copy,
        })
    };
    // What cannot be read is no archive; the copy then says why.
    look().unwrap_or(Treatment::Copy)
}
