use jiff::Zoned;
use kiln_schemas::model::GitVariant;

use super::content::tests::some_key;
use super::*;
use crate::testing::engine;

struct NoGit;

impl Git for NoGit {
    fn ask(&self, dir: &Path, args: &[&str]) -> Result<String, GitError> {
        Err(GitError::Failed {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            dir: dir.to_owned(),
            message: "not a git repository".into(),
        })
    }
}

struct FixedGit;

impl Git for FixedGit {
    fn ask(&self, _: &Path, args: &[&str]) -> Result<String, GitError> {
        Ok(if args[0] == "status" {
            " M main.go".into()
        } else {
            "v1.2".into()
        })
    }
}

fn choose_with(policy: &TagPolicy, git: &dyn Git) -> Result<String, TagError> {
    let now: Zoned = "2026-05-06T07:08:09.012+00:00[UTC]".parse().unwrap();
    choose(
        policy,
        &TagInputs {
            image: "r.example/app",
            context: Path::new("/project"),
            now: &now,
            content: &some_key("content"),
            input_digest: &"ab".repeat(32),
            git,
            engine: &engine(),
        },
    )
}

#[test]
fn sources_are_read_for_skaffolds_digest_only_where_it_is_used() {
    let digest = vec![TagComponent {
        name: "D".into(),
        policy: TagPolicy::InputDigest,
    }];
    for (policy, needed) in [
        (TagPolicy::Content, false),
        (git_commit(""), false),
        (TagPolicy::InputDigest, true),
        (custom("v1-{{.INPUT_DIGEST}}", Vec::new()), true),
        (custom("v1-{{.D}}", digest), true),
        (custom("v1-{{.DATE}}", Vec::new()), false),
    ] {
        assert_eq!(needs_input_digest(&policy), needed, "{policy:?}");
    }
}

fn custom(template: &str, components: Vec<TagComponent>) -> TagPolicy {
    TagPolicy::Custom {
        template: Template(template.into()),
        components,
    }
}

fn git_commit(prefix: &str) -> TagPolicy {
    TagPolicy::GitCommit {
        variant: GitVariant::Tags,
        prefix: prefix.into(),
        ignore_changes: false,
    }
}

#[test]
fn each_policy_gives_its_tag() {
    let env = |text: &str| TagPolicy::EnvTemplate {
        template: Template(text.into()),
    };
    let date = TagPolicy::DateTime {
        format: String::new(),
        timezone: None,
    };
    let content = some_key("content").tag();
    let digest = "ab".repeat(32);
    for (policy, tag) in [
        (TagPolicy::Latest, "latest"),
        (TagPolicy::Content, content.as_str()),
        (TagPolicy::InputDigest, digest.as_str()),
        (git_commit("rel-"), "rel-v1.2-dirty"),
        (date, "2026-05-06_07-08-09.012_UTC"),
        (env("build-1"), "build-1"),
        (
            custom("{{.GIT}}_{{.DATE}}", Vec::new()),
            "v1.2-dirty_2026-05-06_07-08-09.012_UTC",
        ),
        (custom("{{.SHA}}", Vec::new()), "latest"),
        (
            custom(
                "{{.DAY}}",
                vec![TagComponent {
                    name: "DAY".into(),
                    policy: TagPolicy::DateTime {
                        format: "2006-01-02".into(),
                        timezone: None,
                    },
                }],
            ),
            "2026-05-06",
        ),
    ] {
        assert_eq!(choose_with(&policy, &FixedGit).unwrap(), tag, "{policy:?}");
    }
}

#[test]
fn a_tagger_that_fails_is_an_error_and_not_latest() {
    let error = choose_with(&git_commit(""), &NoGit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot take the tag of r.example/app from git"
    );
}

#[test]
fn a_custom_tag_without_git_needs_no_git() {
    assert_eq!(
        choose_with(&custom("{{.INPUT_DIGEST}}", Vec::new()), &NoGit)
            .unwrap()
            .len(),
        64
    );
}

#[test]
fn custom_tags_do_not_nest() {
    let inner = TagComponent {
        name: "X".into(),
        policy: custom("a", Vec::new()),
    };
    let error = choose_with(&custom("{{.X}}", vec![inner]), &FixedGit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "component X of the tag of r.example/app is itself a customTemplate, which is not allowed"
    );
}

#[test]
fn what_is_no_tag_is_refused() {
    for text in ["", "a b", "-a", ".a", "a:b", "größe", &"x".repeat(129)] {
        let policy = TagPolicy::EnvTemplate {
            template: Template(text.to_owned()),
        };
        assert!(
            matches!(
                choose_with(&policy, &FixedGit),
                Err(TagError::Invalid { .. })
            ),
            "{text}"
        );
    }
}

#[test]
fn a_missing_variable_is_an_error() {
    let policy = TagPolicy::EnvTemplate {
        template: Template("v-<no value>".into()),
    };
    let error = choose_with(&policy, &FixedGit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot render the tag of r.example/app from `v-<no value>`: a variable that it names is not set"
    );
}
