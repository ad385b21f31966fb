//! Tags from git: which question to ask it, and how its answer becomes a tag.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_schemas::model::GitVariant;

use super::TAG_MAX;

const DIRTY: &str = "-dirty";

/// Asks git about a folder.
pub trait Git {
    /// Runs `git <args>` in `dir` and returns what it printed, trimmed.
    fn ask(&self, dir: &Path, args: &[&str]) -> Result<String, GitError>;
}

/// The `git` on the search path.
#[derive(Debug, Clone, Copy, Default)]
pub struct GitBinary;

/// git gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It cannot be started.
    #[error("cannot run git")]
    Start(#[source] io::Error),
    /// It failed.
    #[error("`git {}` in {} failed: {message}", args.join(" "), dir.display())]
    Failed {
        /// Its arguments.
        args: Vec<String>,
        /// Where it ran.
        dir: PathBuf,
        /// What it said.
        message: String,
    },
    /// No branch is checked out.
    #[error("no branch is checked out in {}, so it has no name to tag with", dir.display())]
    Detached {
        /// The folder.
        dir: PathBuf,
    },
}

impl Git for GitBinary {
    fn ask(&self, dir: &Path, args: &[&str]) -> Result<String, GitError> {
        // No optional locks: a `status` must not write the index of a
        // repository in which the developer works at the same time.
        let output = Command::new("git")
            .arg("--no-optional-locks")
            .args(args)
            .current_dir(dir)
            .output()
            .map_err(GitError::Start)?;
        if !output.status.success() {
            return Err(GitError::Failed {
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                dir: dir.to_owned(),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// What a work tree with changes does to the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dirty {
    /// `-dirty` is added.
    Mark,
    /// Nothing.
    Ignore,
}

/// The tag without its prefix (which the user wrote and which is kept as is).
pub(super) fn tag(
    git: &dyn Git,
    dir: &Path,
    variant: GitVariant,
    dirty: Dirty,
) -> Result<String, GitError> {
    let answer = git.ask(dir, question(variant))?;
    if answer.is_empty() {
        return Err(GitError::Detached {
            dir: dir.to_owned(),
        });
    }
    let changed =
        dirty == Dirty::Mark && !git.ask(dir, &["status", ".", "--porcelain"])?.is_empty();
    let mut tag = sanitised(&answer);
    if changed {
        tag.truncate(TAG_MAX - DIRTY.len());
        tag.push_str(DIRTY);
    }
    Ok(tag)
}

/// `HEAD:./` is the tree of the folder that git runs in.
fn question(variant: GitVariant) -> &'static [&'static str] {
    match variant {
        GitVariant::Tags => &["describe", "--tags", "--always"],
        GitVariant::CommitSha => &["rev-list", "-1", "HEAD"],
        GitVariant::AbbrevCommitSha => &["rev-list", "-1", "HEAD", "--abbrev-commit"],
        GitVariant::TreeSha => &["rev-parse", "HEAD:./"],
        GitVariant::AbbrevTreeSha => &["rev-parse", "--short", "HEAD:./"],
        GitVariant::Branches => &["branch", "--show-current"],
    }
}

/// Every character that a tag cannot have becomes `_`, also `-` and `.` at the
/// start; cut at 128.
fn sanitised(text: &str) -> String {
    let mut leading = true;
    text.chars()
        .map(|c| {
            leading &= c == '-' || c == '.';
            if leading || !(c.is_ascii_alphanumeric() || "-._".contains(c)) {
                '_'
            } else {
                c
            }
        })
        .take(TAG_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tag_cannot_have_becomes_an_underscore() {
        for (text, tag) in [
            ("v1.0.0-3-gabc", "v1.0.0-3-gabc"),
            ("feature/login@2", "feature_login_2"),
            ("--.v1", "___v1"),
            ("größe", "gr__e"),
        ] {
            assert_eq!(sanitised(text), tag);
        }
        assert_eq!(sanitised(&"x".repeat(200)).len(), 128);
    }

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| GitBinary.ask(folder.path(), args).unwrap();
        std::fs::create_dir(folder.path().join("app")).unwrap();
        std::fs::write(folder.path().join("app/main.go"), "package main\n").unwrap();
        run(&["init", "-q", "-b", "feature/login"]);
        run(&["add", "."]);
        commit(folder.path(), "one");
        run(&["-c", "tag.gpgSign=false", "tag", "v1.0"]);
        folder
    }

    fn commit(dir: &Path, message: &str) {
        let identity = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.com",
            "-c",
            "commit.gpgSign=false",
        ];
        let args: Vec<_> = identity
            .into_iter()
            .chain(["commit", "-q", "-a", "-m", message])
            .collect();
        GitBinary.ask(dir, &args).unwrap();
    }

    fn make(dir: &Path, variant: GitVariant, dirty: Dirty) -> String {
        tag(&GitBinary, dir, variant, dirty).unwrap()
    }

    #[test]
    fn every_variant_says_what_git_says() {
        let folder = repository();
        let app = folder.path().join("app");
        let ask = |args: &[&str]| GitBinary.ask(folder.path(), args).unwrap();
        let head = ask(&["rev-parse", "HEAD"]);
        let tree = ask(&["rev-parse", "HEAD:app"]);
        assert_eq!(make(&app, GitVariant::Tags, Dirty::Mark), "v1.0");
        assert_eq!(make(&app, GitVariant::CommitSha, Dirty::Mark), head);
        assert!(head.starts_with(&make(&app, GitVariant::AbbrevCommitSha, Dirty::Mark)));
        assert_eq!(make(&app, GitVariant::TreeSha, Dirty::Mark), tree);
        assert!(tree.starts_with(&make(&app, GitVariant::AbbrevTreeSha, Dirty::Mark)));
        assert_eq!(
            make(&app, GitVariant::Branches, Dirty::Mark),
            "feature_login"
        );
    }

    #[test]
    fn a_change_below_the_context_marks_the_tag_and_one_beside_it_does_not() {
        let folder = repository();
        let app = folder.path().join("app");
        std::fs::write(folder.path().join("README"), "beside\n").unwrap();
        assert_eq!(make(&app, GitVariant::Tags, Dirty::Mark), "v1.0");
        std::fs::write(app.join("main.go"), "package changed\n").unwrap();
        assert_eq!(make(&app, GitVariant::Tags, Dirty::Mark), "v1.0-dirty");
        assert_eq!(make(&app, GitVariant::Tags, Dirty::Ignore), "v1.0");
    }

    #[test]
    fn a_folder_without_git_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = tag(&GitBinary, folder.path(), GitVariant::Tags, Dirty::Mark).unwrap_err();
        assert!(
            error.to_string().contains("not a git repository"),
            "{error}"
        );
    }

    #[test]
    fn without_a_branch_there_is_no_branch_name() {
        let folder = repository();
        GitBinary
            .ask(folder.path(), &["checkout", "-q", "--detach"])
            .unwrap();
        let error = tag(&GitBinary, folder.path(), GitVariant::Branches, Dirty::Mark).unwrap_err();
        assert!(matches!(error, GitError::Detached { .. }), "{error}");
    }
}
