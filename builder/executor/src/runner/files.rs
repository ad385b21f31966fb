//! `COPY`, `ADD` and `WORKDIR`: steps that put files over an image without a command.

use super::copy::{self, Owner, Place, Prepared};
use super::stage::Made;
use super::{Built, Report, Session, StepError, identity, locked};
use crate::folder::Folder;
use crate::layer::view::View;
use crate::plan::{self, From, Placing, Source};
use crate::remote::Want;

impl<'a> Session<'a> {
    pub(super) fn workdir(
        &self,
        (path, owner): (&str, &str),
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<Made, StepError> {
        let image = self.beneath(built, Want::Headers, report)?;
        let owner = match owner {
            "" => None,
            spec => Some(identity::maker(&image, spec)?),
        };
        let delta = copy::workdir(path, owner, &image, self.now)?;
        Ok(Made::list(delta))
    }

    pub(super) fn copy(
        &self,
        op: &plan::Copy,
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<Made, StepError> {
        let image = match op.placing {
            Placing::Within => self.beneath(built, Want::Headers, report)?,
            Placing::Alone => View::default(),
        };
        let mut ignore_file = None;
        let (view, name, owner) = match &op.from {
            From::Context | From::Named(_) => {
                let folder = self.folder(&op.from)?;
                ignore_file = folder.ignore_file();
                (folder.view(), folder.name, Owner::Root)
            }
            From::Stage(index) => {
                let view = self.view_to_copy(*index, op, report)?;
                // The new layer refers to files of that stage.
                if let Some(of_stage) = self.board.get(*index) {
                    let scratch = locked(&of_stage).scratch.clone();
                    built.scratch.extend(scratch);
                }
                let name = self
                    .plan
                    .stage(*index)
                    .map_or_else(String::new, |stage| stage.name.clone());
                (view, format!("stage {name}"), Owner::Kept)
            }
            From::Image(key) => (
                self.image_view(key, report)?,
                format!("image {}", key.name),
                Owner::Kept,
            ),
            From::Scratch => (View::default(), "scratch".to_owned(), Owner::Kept),
        };
        let place = Place {
            view: &view,
            ignore_file,
            name: &name,
            owner,
        };
        copy::refuse_unmatched(self.plan, op, place)?;
        let mut prepared = Prepared::default();
        let given = &mut prepared.given;
        for source in &op.sources {
            match source {
                Source::Inline { name, content } => {
                    given.push(copy::inline(name, content, self.now));
                }
                Source::Url(url) => {
                    let file = self.download(url, op)?;
                    given.push(self.perhaps_unpacked(file, op, built)?);
                }
                Source::Git {
                    address, history, ..
                } => given.push(self.checkout(address, (*history, op), built)?),
                Source::Path(_) => {}
            }
        }
        if op.unpack_local {
            prepared.archives = self.archives(op, place, built)?;
        }
        let mut delta = copy::copy(op, place, &prepared, &image, self.now)?;
        if !delta.has_all_bytes() {
            // An archive gives a further name to a file of the image.
            let image = self.beneath(built, Want::Files, report)?;
            delta = copy::copy(op, place, &prepared, &image, self.now)?;
        }
        Ok(Made::list(delta))
    }

    /// The context, or a directory of `--build-context`.
    pub(super) fn folder(&self, from: &From) -> Result<Folder<'a>, StepError> {
        Folder::of(from, self.request).ok_or_else(|| StepError::Unsupported {
            what: match from {
                From::Named(name) => format!("the context {name}, which is no directory"),
                _ => "a context that is no directory".to_owned(),
            },
            instead: "name a directory with --build-context",
        })
    }
}
