//! `COPY` and `ADD`: what is copied from where, and their text in the history.

use kiln_dockerfile::instruction::{Add, Copy as CopyInstruction, Source as Word};

use super::error::PlanError;
use super::stage::{At, Draft, Planner};
use super::{Copy, From, Op, Placing, Source, Step, history};
use crate::git::{Address, AddressError, History};

impl Planner<'_> {
    pub(super) fn copy(
        &mut self,
        copy: &CopyInstruction,
        at: At<'_>,
        draft: &Draft<'_>,
    ) -> Result<Step, PlanError> {
        let from = match &copy.from {
            Some(from) => self.earlier(from, at, &draft.platform)?,
            None => From::Context,
        };
        let sources = draft.sources(&copy.sources, at)?;
        if let Some(Source::Path(path)) = sources.iter().find(|source| is_remote(source)) {
            let instead = "ADD fetches from the web and from repositories";
            return Err(at.unsupported(format!("COPY {path}"), instead));
        }
        let chmod = draft.optional(copy.chmod.as_ref(), at)?;
        let op = Copy {
            keyword: "COPY",
            from,
            sources,
            dest: draft.path(&copy.dest, at)?,
            chown: draft.optional(copy.chown.as_ref(), at)?,
            exclude: copy.exclude.clone(), // BuildKit does not expand them
            parents: copy.parents,
            placing: placing(copy.link, chmod.as_ref()),
            chmod,
            unpack_local: false,
            unpack_remote: false,
            checksum: None,
        };
        draft.copied(op, &copy.dest, at)
    }

    pub(super) fn add(&self, add: &Add, at: At<'_>, draft: &Draft<'_>) -> Result<Step, PlanError> {
        let mut sources = draft.sources(&add.sources, at)?;
        for source in &mut sources {
            if !is_remote(source) {
                continue;
            }
            let Source::Path(path) = &*source else {
                continue;
            };
            *source = match Address::parse(path) {
                Some(address) if is_git(path) => repository(path, address, add, at)?,
                _ => Source::Url(path.clone()),
            };
        }
        let checksum = draft.optional(add.checksum.as_ref(), at)?;
        if checksum.is_some() {
            check_checksum(&sources, at)?;
        }
        let chmod = draft.optional(add.chmod.as_ref(), at)?;
        let op = Copy {
            keyword: "ADD",
            from: From::Context,
            sources,
            dest: draft.path(&add.dest, at)?,
            chown: draft.optional(add.chown.as_ref(), at)?,
            exclude: add.exclude.clone(),
            parents: false,
            placing: placing(add.link, chmod.as_ref()),
            chmod,
            unpack_local: add.unpack.unwrap_or(true),
            unpack_remote: add.unpack.unwrap_or(false),
            checksum,
        };
        draft.copied(op, &add.dest, at)
    }
}

impl Draft<'_> {
    fn sources(&self, words: &[Word], at: At<'_>) -> Result<Vec<Source>, PlanError> {
        // Files of the Dockerfile come after all others, wherever they stand (BuildKit's `dispatchCopy`).
        let (paths, inline): (Vec<_>, Vec<_>) =
            words.iter().partition(|word| matches!(word, Word::Path(_)));
        paths
            .into_iter()
            .chain(inline)
            .map(|word| match word {
                Word::Path(word) => at.expand(self.scope.expand(word)).map(Source::Path),
                Word::Heredoc(heredoc) => {
                    let body = heredoc.body();
                    let content = if heredoc.expand {
                        at.expand(self.scope.expand_heredoc(&body))?
                    } else {
                        body
                    };
                    Ok(Source::Inline {
                        name: heredoc.name.clone(),
                        content,
                    })
                }
            })
            .collect()
    }

    /// The step, with the destination in the history as it was written.
    fn copied(&self, op: Copy, dest: &str, at: At<'_>) -> Result<Step, PlanError> {
        let dest = at.expand(self.scope.expand(dest))?;
        let created_by = history::copy(&op, &dest);
        Ok(at.step(Op::Copy(Box::new(op)), history::layer(created_by)))
    }
}

/// BuildKit copies on its own layer only where no mode has to be applied.
fn placing(link: bool, chmod: Option<&String>) -> Placing {
    if link && chmod.is_none() {
        Placing::Alone
    } else {
        Placing::Within
    }
}

fn is_remote(source: &Source) -> bool {
    let Source::Path(path) = source else {
        return false;
    };
    is_git(path) || path.starts_with("http://") || path.starts_with("https://")
}

/// What BuildKit takes for a repository: `git@…`, `git://…`, or a web address whose path ends in
/// `.git` (a fragment and a query may follow).
fn is_git(source: &str) -> bool {
    let path = source.split(['#', '?']).next().unwrap_or_default();
    source.starts_with("git@")
        || source.starts_with("git://")
        || source.starts_with("ssh://")
        || (source.starts_with("http") && source.contains("://") && path.ends_with(".git"))
}

/// A repository, with what the flag and the address say about `.git`.
fn repository(
    text: &str,
    address: Result<Address, AddressError>,
    add: &Add,
    at: At<'_>,
) -> Result<Source, PlanError> {
    let invalid = |why: String| PlanError::Invalid {
        position: at.position,
        what: format!("ADD {text}: {why}"),
    };
    let address = address.map_err(|error| invalid(error.to_string()))?;
    let keep = match (add.keep_git_dir, address.keep_git_dir) {
        (Some(flag), Some(query)) if flag != query => {
            return Err(invalid(
                "--keep-git-dir and the address disagree".to_owned(),
            ));
        }
        (flag, query) => flag.or(query).unwrap_or(false),
    };
    Ok(Source::Git {
        text: text.to_owned(),
        address: Box::new(address),
        history: if keep {
            History::Kept
        } else {
            History::Removed
        },
    })
}

fn check_checksum(sources: &[Source], at: At<'_>) -> Result<(), PlanError> {
    let is_inline = |source: &&Source| matches!(source, Source::Inline { .. });
    let paths: Vec<&Source> = sources.iter().filter(|source| !is_inline(source)).collect();
    let what = match paths[..] {
        [Source::Url(_) | Source::Git { .. }] => return Ok(()),
        [_] | [] => "--checksum is for an address of the web or a repository",
        _ => "--checksum is for a single source",
    };
    Err(PlanError::Invalid {
        position: at.position,
        what: format!("ADD: {what}: remove it, or split the instruction"),
    })
}
