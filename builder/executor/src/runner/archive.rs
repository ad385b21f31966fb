//! `ADD` of archives that lie in the context.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::copy::{self, Given, Place};
use super::{Built, Session, StepError, io_error};
use crate::layer::bounds::{self, Marked};
use crate::layer::delta::Content;
use crate::layer::index;
use crate::layer::unpack;
use crate::plan::{self, Source};

/// What `ADD` does with a file, by its content, as BuildKit decides it.
enum Treatment {
    /// A tar, plain or compressed.
    Unpack,
    /// No archive.
    Copy,
}

impl Session<'_> {
    /// Reads the archives among the sources of an `ADD` and takes them out of it: what is in them
    /// is put there instead.
    pub(super) fn archives(
        &self,
        op: &mut plan::Copy,
        place: Place<'_>,
        given: &mut Vec<Given>,
        built: &mut Built,
    ) -> Result<(), StepError> {
        let mut rest = Vec::new();
        for source in std::mem::take(&mut op.sources) {
            let one = plan::Copy {
                sources: vec![source.clone()],
                ..op.clone()
            };
            let mut others = Vec::new();
            let mut is_split = false;
            for (path, found) in copy::sources(&one, place)? {
                let archive = found
                    .host()
                    .filter(|_| !found.node.is_dir())
                    .map(|host| (host, treatment(host)));
                match archive {
                    Some((host, Treatment::Unpack)) => {
                        given.push(self.unpacked(host, &path, built)?);
                        is_split = true;
                    }
                    _ => others.push(Source::Path(escaped(&path))),
                }
            }
            if is_split {
                rest.append(&mut others);
                if !op.dest.ends_with('/') {
                    op.dest.push('/');
                }
            } else {
                rest.push(source);
            }
        }
        op.sources = rest;
        Ok(())
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
        let stream = index::decompress(File::open(host)?)?;
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

/// A path as a pattern that matches nothing else.
fn escaped(path: &Path) -> String {
    let mut pattern = String::new();
    for letter in path.to_string_lossy().chars() {
        if matches!(letter, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
