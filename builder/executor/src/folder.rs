//! A directory of this machine that steps read: the build context, or one of `--build-context`.

use std::path::Path;

use kiln_dockerfile::ignore::Patterns;

use crate::layer::view::View;
use crate::plan::{From, NamedContext};
use crate::request::Request;
use crate::runner::copy::{Owner, Place};

/// The directory, and what is left out of it by which file.
#[derive(Debug, Clone)]
pub(crate) struct Folder<'a> {
    /// For messages.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) dir: &'a Path,
    ignore: Option<&'a (Patterns, String)>,
}

impl<'a> Folder<'a> {
    /// What a step reads from there. `None` when that is no directory of this machine.
    pub(crate) fn of(from: &From, request: &'a Request) -> Option<Self> {
        match from {
            From::Context => Some(Self {
                name: "the context".to_owned(),
                dir: &request.context.dir,
                ignore: request.context.ignore.as_ref(),
            }),
            From::Named(name) => match request.contexts.get(name)? {
                NamedContext::Directory(directory) => Some(Self {
                    name: format!("the context {name}"),
                    dir: &directory.dir,
                    ignore: directory.ignore.as_ref(),
                }),
                NamedContext::Image(_) => None,
            },
            From::Stage(_) | From::Image(_) | From::Scratch => None,
        }
    }

    /// The whole context, whatever is left out of it.
    pub(crate) fn whole_context(request: &'a Request) -> Self {
        Self {
            name: "the context".to_owned(),
            dir: &request.context.dir,
            ignore: None,
        }
    }

    /// Its files.
    pub(crate) fn view(&self) -> View {
        let patterns = self.ignore.map(|(patterns, _)| patterns);
        View::context(self.dir.to_owned(), patterns)
    }

    /// Where a copy takes them from: they belong to root.
    pub(crate) fn place<'b>(&'b self, view: &'b View) -> Place<'b> {
        Place {
            view,
            ignore_file: self.ignore_file(),
            name: &self.name,
            owner: Owner::Root,
        }
    }

    /// The file that says what is left out.
    pub(crate) fn ignore_file(&self) -> Option<&'a str> {
        self.ignore.map(|(_, file)| file.as_str())
    }
}
