//! Sync or rebuild: decided from the changed files, the rules and what the
//! build said about where files went. Pure.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{ManualSync, SyncRules};

/// Files that differ from what is in the image; paths below the context, with
/// `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New or changed.
    pub written: Vec<String>,
    /// Gone.
    pub deleted: Vec<String>,
}

/// What to do in the containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Context-relative source and absolute destination.
    pub copies: Vec<(String, PathBuf)>,
    /// Absolute paths.
    pub deletions: Vec<PathBuf>,
}

/// What a change of files asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Copy and delete.
    Sync(Plan),
    /// Build, because of this.
    Rebuild(String),
}

/// Decides; it is a sync only when every file has a place in the containers.
///
/// Manual rules: every rule that matches gives a place, `dest` joined with the
/// path from which `strip` was cut (skaffold `pkg/skaffold/sync`). Inferred
/// rules: a file that matches a pattern goes where COPY or ADD put it, or the
/// folder that it is in.
pub fn plan(changes: &Changes, rules: &SyncRules, image: &BuiltImage) -> Decision {
    decide(changes, rules, image).map_or_else(Decision::Rebuild, Decision::Sync)
}

fn decide(changes: &Changes, rules: &SyncRules, image: &BuiltImage) -> Result<Plan, String> {
    let places = Places::compile(rules, image)?;
    let mut plan = Plan::default();
    for path in &changes.written {
        plan.copies.extend(
            places
                .of(path)?
                .into_iter()
                .map(|place| (path.clone(), place)),
        );
    }
    for path in &changes.deleted {
        plan.deletions.extend(places.of(path)?);
    }
    // A place that is written as well, as when a file moved, stays.
    let written: BTreeSet<&PathBuf> = plan.copies.iter().map(|(_, place)| place).collect();
    plan.deletions.retain(|place| !written.contains(place));
    Ok(plan)
}

enum Places<'a> {
    Manual(Vec<(GlobMatcher, &'a ManualSync)>, &'a BuiltImage),
    Inferred(Vec<GlobMatcher>, &'a BuiltImage),
}

impl<'a> Places<'a> {
    fn compile(rules: &'a SyncRules, image: &'a BuiltImage) -> Result<Self, String> {
        Ok(match rules {
            SyncRules::Manual(rules) => {
                let compiled = rules.iter().map(|rule| Ok((glob(&rule.src)?, rule)));
                Self::Manual(compiled.collect::<Result<_, String>>()?, image)
            }
            SyncRules::Inferred(patterns) => {
                let compiled = patterns.iter().map(|pattern| glob(pattern));
                Self::Inferred(compiled.collect::<Result<_, String>>()?, image)
            }
        })
    }

    /// Where a file is in the containers; an error says why it must be built.
    fn of(&self, path: &str) -> Result<BTreeSet<PathBuf>, String> {
        match self {
            Self::Manual(rules, image) => {
                let matching = rules.iter().filter(|(glob, _)| glob.is_match(path));
                let places = matching.map(|(_, rule)| manual(path, rule, image));
                let places: BTreeSet<_> = places.collect::<Result<_, _>>()?;
                if places.is_empty() {
                    Err(format!("{path} matches no sync rule"))
                } else {
                    Ok(places)
                }
            }
            Self::Inferred(patterns, image) => {
                if !patterns.iter().any(|glob| glob.is_match(path)) {
                    return Err(format!("{path} matches no sync rule"));
                }
                let place = inferred(path, image);
                place.map(|place| BTreeSet::from([place])).ok_or_else(|| {
                    format!("no COPY or ADD of the last stage puts {path} into the image unchanged")
                })
            }
        }
    }
}

fn manual(path: &str, rule: &ManualSync, image: &BuiltImage) -> Result<PathBuf, String> {
    let below = path
        .strip_prefix(rule.strip.as_str())
        .unwrap_or(path)
        .trim_start_matches('/');
    let dest = Path::new(&rule.dest);
    let base = if dest.is_absolute() {
        dest.to_owned()
    } else {
        let workdir = image.workdir.as_ref().ok_or_else(|| {
            format!(
                "sync destination `{}` is relative and the image's WORKDIR is not known",
                rule.dest
            )
        })?;
        Path::new("/").join(workdir).join(dest)
    };
    Ok(normal(&base.join(below)))
}

/// The place of the file itself, or below that of the nearest folder above it.
fn inferred(path: &str, image: &BuiltImage) -> Option<PathBuf> {
    let mut above = Path::new(path);
    loop {
        let key = above.to_str()?;
        let keys = if key.is_empty() {
            [".", ""]
        } else {
            [key, key]
        };
        if let Some(place) = keys.iter().find_map(|key| image.placed.get(*key)) {
            let below = Path::new(path).strip_prefix(above).ok()?;
            return Some(if below.as_os_str().is_empty() {
                place.clone()
            } else {
                normal(&place.join(below))
            });
        }
        above = above.parent()?;
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    let plain = pattern.strip_prefix("./").unwrap_or(pattern);
    let glob = GlobBuilder::new(plain).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| format!("sync rule `{pattern}`: {error}"))
}

/// Without `.` and `..`; nothing is above `/`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn image(workdir: Option<&str>, placed: &[(&str, &str)]) -> BuiltImage {
        let placed: BTreeMap<_, _> = placed
            .iter()
            .map(|(from, to)| ((*from).to_owned(), PathBuf::from(to)))
            .collect();
        BuiltImage {
            name: "app".into(),
            reference: "r/app:1".into(),
            digest: None,
            placed,
            workdir: workdir.map(PathBuf::from),
        }
    }

    fn manual_rules(rules: &[(&str, &str, &str)]) -> SyncRules {
        let rule = |(src, dest, strip): &(&str, &str, &str)| ManualSync {
            src: (*src).into(),
            dest: (*dest).into(),
            strip: (*strip).into(),
        };
        SyncRules::Manual(rules.iter().map(rule).collect())
    }

    fn written(paths: &[&str]) -> Changes {
        Changes {
            written: paths.iter().map(|path| (*path).to_owned()).collect(),
            deleted: vec![],
        }
    }

    fn copies(decision: Decision) -> Vec<(String, String)> {
        match decision {
            Decision::Sync(plan) => plan
                .copies
                .into_iter()
                .map(|(from, to)| (from, to.display().to_string()))
                .collect(),
            Decision::Rebuild(why) => panic!("{why}"),
        }
    }

    #[test]
    fn manual_rules_place_files_below_their_destination() {
        // skaffold's documented examples.
        let rules = manual_rules(&[("**/*.py", ".", ""), ("static/*.html", "/srv", "static/")]);
        let image = image(Some("/app"), &[]);
        assert_eq!(
            copies(plan(
                &written(&["src/main.py", "static/index.html"]),
                &rules,
                &image
            )),
            [
                ("src/main.py".into(), "/app/src/main.py".into()),
                ("static/index.html".into(), "/srv/index.html".into())
            ]
        );
    }

    #[test]
    fn one_file_without_a_place_means_a_build() {
        let rules = manual_rules(&[("*.html", ".", "")]);
        let decision = plan(
            &written(&["index.html", "main.go"]),
            &rules,
            &image(Some("/app"), &[]),
        );
        assert_eq!(
            decision,
            Decision::Rebuild("main.go matches no sync rule".into())
        );
        let decision = plan(&written(&["index.html"]), &rules, &image(None, &[]));
        assert!(matches!(decision, Decision::Rebuild(why) if why.contains("WORKDIR is not known")));
    }

    #[test]
    fn inferred_rules_follow_copy_for_files_and_folders() {
        let rules = SyncRules::Inferred(vec!["**/*".into()]);
        let image = image(None, &[("conf.yaml", "/etc/app.yaml"), ("web", "/srv/web")]);
        assert_eq!(
            copies(plan(
                &written(&["conf.yaml", "web/css/a.css"]),
                &rules,
                &image
            )),
            [
                ("conf.yaml".into(), "/etc/app.yaml".into()),
                ("web/css/a.css".into(), "/srv/web/css/a.css".into())
            ]
        );
        let decision = plan(&written(&["main.go"]), &rules, &image);
        assert!(
            matches!(decision, Decision::Rebuild(why) if why.contains("puts main.go into the image"))
        );
    }

    #[test]
    fn the_whole_context_may_be_copied() {
        let rules = SyncRules::Inferred(vec!["**/*.js".into()]);
        let image = image(None, &[(".", "/app")]);
        assert_eq!(
            copies(plan(&written(&["lib/a.js"]), &rules, &image)),
            [("lib/a.js".into(), "/app/lib/a.js".into())]
        );
    }

    #[test]
    fn deletions_are_mapped_like_copies_and_a_rewritten_place_stays() {
        let rules = manual_rules(&[("old/*", "/d", "old/"), ("new/*", "/d", "new/")]);
        let changes = Changes {
            written: vec!["new/a".into()],
            deleted: vec!["old/a".into(), "old/b".into()],
        };
        let decision = plan(&changes, &rules, &image(None, &[]));
        let expected = Plan {
            copies: vec![("new/a".into(), "/d/a".into())],
            deletions: vec!["/d/b".into()],
        };
        assert_eq!(decision, Decision::Sync(expected));
    }
}
