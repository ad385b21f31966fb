//! Where sources end up in the image: what inferred file sync needs. Pure;
//! read from the COPY and ADD instructions of the stage that becomes the image.
//!
//! A file that this cannot place for certain has no entry, so that a change of
//! it causes a build: patterns with `--parents` or `--exclude`, archives that
//! ADD unpacks, destinations below a WORKDIR that only the base image knows.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use kiln_dockerfile::Dockerfile;
use kiln_dockerfile::glob::{Glob, has_wildcard};
use kiln_dockerfile::graph::StageGraph;
use kiln_dockerfile::instruction::{Instruction, Source};
use kiln_dockerfile::scope::{BuildFor, Globals, Scope};

/// Sources with their places, and the image's working directory as far as the
/// Dockerfile says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Context-relative source, with `/`, to absolute path in the image.
    pub files: BTreeMap<String, PathBuf>,
    /// The last WORKDIR of the stage.
    pub workdir: Option<PathBuf>,
}

/// Places `sources`, the context-relative paths of regular files.
pub fn placed(
    dockerfile: &Dockerfile,
    build: &BuildFor,
    build_args: &BTreeMap<String, String>,
    sources: &[String],
) -> Placed {
    try_placed(dockerfile, build, build_args, sources).unwrap_or_default()
}

/// `None` where something cannot be expanded; then nothing is placed.
fn try_placed(
    dockerfile: &Dockerfile,
    build: &BuildFor,
    build_args: &BTreeMap<String, String>,
    sources: &[String],
) -> Option<Placed> {
    let globals = Globals::evaluate(dockerfile, build, build_args).ok()?;
    let graph = StageGraph::new(dockerfile, &globals).ok()?;
    let stage = &dockerfile.stages[graph.target(build.stage.as_deref()).ok()?];
    let mut scope = globals.stage([]);
    let mut placed = Placed::default();
    for located in &stage.instructions {
        match &located.value {
            Instruction::Arg(args) => args.iter().try_for_each(|arg| scope.declare(arg)).ok()?,
            Instruction::Env(pairs) => scope.set_env(pairs).ok()?,
            Instruction::Workdir(path) => {
                let path = scope.expand(path).ok()?;
                placed.workdir = absolute(placed.workdir.as_deref(), &path);
            }
            Instruction::Copy(copy)
                if copy.from.is_none() && !copy.parents && copy.exclude.is_empty() =>
            {
                place(&copy.sources, &copy.dest, &scope, sources, &mut placed);
            }
            Instruction::Add(add) if add.exclude.is_empty() && add.unpack != Some(true) => {
                let plain: Vec<String> =
                    sources.iter().filter(|s| !is_archive(s)).cloned().collect();
                place(&add.sources, &add.dest, &scope, &plain, &mut placed);
            }
            _ => {}
        }
    }
    Some(placed)
}

fn place(
    patterns: &[Source],
    dest: &str,
    scope: &Scope<'_>,
    sources: &[String],
    placed: &mut Placed,
) {
    let Ok(dest) = scope.expand(dest) else { return };
    let Some(target) = absolute(placed.workdir.as_deref(), &dest) else {
        return;
    };
    let words = patterns.iter().map(|source| match source {
        Source::Path(path) => scope.expand(path).ok(),
        Source::Heredoc(_) => None,
    });
    for word in words.flatten() {
        let word = clean(&word);
        let into_folder =
            dest.ends_with('/') || dest == "." || patterns.len() > 1 || has_wildcard(&word);
        for source in sources {
            if let Some(below) = below(&word, source) {
                let name = Path::new(source)
                    .file_name()
                    .map(PathBuf::from)
                    .unwrap_or_default();
                let at = match below {
                    Below::Itself if into_folder => target.join(name),
                    Below::Itself => target.clone(),
                    Below::Inside(rest) => target.join(rest),
                };
                placed.files.insert(source.clone(), at);
            }
        }
    }
}

/// How a source relates to a word of COPY.
enum Below<'a> {
    /// The word names the file.
    Itself,
    /// The word names a folder above it; the rest of the path.
    Inside(&'a str),
}

fn below<'a>(word: &str, source: &'a str) -> Option<Below<'a>> {
    if word.is_empty() {
        return Some(Below::Inside(source));
    }
    if !has_wildcard(word) {
        return match source.strip_prefix(word)? {
            "" => Some(Below::Itself),
            rest => rest.strip_prefix('/').map(Below::Inside),
        };
    }
    let glob = Glob::parse(word).ok()?;
    if glob.matches(source) {
        return Some(Below::Itself);
    }
    // A pattern may match a folder, whose content is copied.
    let folders = source.match_indices('/').map(|(at, _)| at);
    folders
        .into_iter()
        .find(|at| glob.matches(&source[..*at]))
        .map(|at| Below::Inside(&source[at + 1..]))
}

/// The path without `.`, `..` and slashes at its ends; they cannot leave the
/// context.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn absolute(workdir: Option<&Path>, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let joined = if path.is_absolute() {
        path.to_owned()
    } else {
        workdir?.join(path)
    };
    let mut clean = PathBuf::from("/");
    for component in joined.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    Some(clean)
}

/// What ADD unpacks (reference manual, "ADD": identity, gzip, bzip2, xz, zstd).
fn is_archive(path: &str) -> bool {
    const ENDINGS: [&str; 10] = [
        ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst",
        ".gz",
    ];
    ENDINGS.iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use kiln_dockerfile::platform::Platform;

    use super::*;

    fn places(text: &str, sources: &[&str]) -> Vec<(String, String)> {
        let platform = Platform::parse("linux/amd64").unwrap();
        let build = BuildFor {
            build: platform.clone(),
            target: platform,
            stage: None,
        };
        let sources: Vec<String> = sources.iter().map(|s| (*s).to_owned()).collect();
        let dockerfile = kiln_dockerfile::parse(text).unwrap();
        placed(&dockerfile, &build, &BTreeMap::new(), &sources)
            .files
            .into_iter()
            .map(|(from, to)| (from, to.display().to_string()))
            .collect()
    }

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.into(), to.into())
    }

    #[test]
    fn folders_files_and_patterns_land_where_docker_puts_them() {
        let text = "FROM busybox\nWORKDIR /app\nCOPY src static/ ./public/\nCOPY *.json .\nCOPY a.txt /etc/b.txt\n";
        let sources = [
            "src/x/y.js",
            "static/s.css",
            "p.json",
            "q/r.json",
            "a.txt",
            "other",
        ];
        assert_eq!(
            places(text, &sources),
            [
                pair("a.txt", "/etc/b.txt"),
                pair("p.json", "/app/p.json"),
                pair("src/x/y.js", "/app/public/x/y.js"),
                pair("static/s.css", "/app/public/s.css"),
            ]
        );
    }

    #[test]
    fn only_the_last_stage_counts_and_what_is_not_certain_has_no_place() {
        let text = "FROM busybox AS one\nWORKDIR /w\nCOPY a /a\nFROM busybox\nCOPY b relative\n\
                    ADD c.tar.gz /c/\nCOPY --exclude=*.md d /d/\nCOPY --from=one /w /w\n";
        assert_eq!(places(text, &["a", "b", "c.tar.gz", "d/e"]), []);
    }
}
