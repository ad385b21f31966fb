//! `build.tagPolicy`.

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::model::{GitVariant, TagComponent, TagPolicy, Template};

/// Go's layout of skaffold's `dateTime` when none is given.
const DATE_FORMAT: &str = "2006-01-02_15-04-05.999_MST";

const POLICIES: [&str; 6] = [
    "gitCommit",
    "sha256",
    "envTemplate",
    "dateTime",
    "customTemplate",
    "inputDigest",
];

/// Components that a custom template may use without naming them.
const BUILT_IN: [&str; 4] = ["GIT", "DATE", "SHA", "INPUT_DIGEST"];

/// Reads the policy; absent means `gitCommit` with tags.
pub(super) fn read(fields: Option<Fields<'_>>) -> TagPolicy {
    fields
        .and_then(|fields| policy(&fields, true))
        .unwrap_or_else(default)
}

fn default() -> TagPolicy {
    TagPolicy::GitCommit {
        variant: GitVariant::Tags,
        prefix: String::new(),
        ignore_changes: false,
    }
}

fn policy(fields: &Fields<'_>, may_nest: bool) -> Option<TagPolicy> {
    let chosen = fields.one_of(&POLICIES)?;
    let section = fields.section(chosen)?;
    match chosen {
        "gitCommit" => Some(TagPolicy::GitCommit {
            variant: variant(&section),
            prefix: section.string("prefix").unwrap_or_default(),
            ignore_changes: section.flag("ignoreChanges"),
        }),
        "sha256" => Some(TagPolicy::Latest),
        "envTemplate" => {
            section.required("template");
            section
                .template("template")
                .map(|template| TagPolicy::EnvTemplate { template })
        }
        "dateTime" => Some(date_time(&section)),
        "inputDigest" => Some(TagPolicy::InputDigest),
        _ if !may_nest => {
            let message = format!(
                "`{}` cannot stand inside a customTemplate",
                fields.path(chosen)
            );
            fields
                .report
                .error(Diagnostic::at(fields.place(chosen), message));
            let mut section = section;
            section.allow_more();
            None
        }
        _ => Some(custom(&section)),
    }
}

fn date_time(section: &Fields<'_>) -> TagPolicy {
    TagPolicy::DateTime {
        format: section
            .string("format")
            .filter(|format| !format.is_empty())
            .unwrap_or_else(|| DATE_FORMAT.to_owned()),
        timezone: section.string("timezone").filter(|zone| !zone.is_empty()),
    }
}

fn variant(section: &Fields<'_>) -> GitVariant {
    let Some(text) = section.string("variant").filter(|text| !text.is_empty()) else {
        return GitVariant::Tags;
    };
    match text.to_lowercase().as_str() {
        "tags" => GitVariant::Tags,
        "commitsha" => GitVariant::CommitSha,
        "abbrevcommitsha" => GitVariant::AbbrevCommitSha,
        "treesha" => GitVariant::TreeSha,
        "abbrevtreesha" => GitVariant::AbbrevTreeSha,
        "branches" => GitVariant::Branches,
        _ => {
            let message = format!("`{text}` is not a variant of gitCommit");
            let help = "use Tags, CommitSha, AbbrevCommitSha, TreeSha, AbbrevTreeSha or Branches";
            section
                .report
                .error(Diagnostic::at(section.place("variant"), message).help(help));
            GitVariant::Tags
        }
    }
}

fn custom(section: &Fields<'_>) -> TagPolicy {
    section.required("template");
    let template = section
        .template("template")
        .unwrap_or_else(|| Template(String::new()));
    let mut components: Vec<TagComponent> = Vec::new();
    for component in section.sections("components") {
        let name = component.required("name");
        let policy = policy(&component, false);
        let Some(name) = name else { continue };
        if components.iter().any(|known| known.name == name) {
            let message = format!("component `{name}` stands twice");
            component
                .report
                .error(Diagnostic::at(component.place("name"), message));
        }
        match policy {
            Some(policy) => components.push(TagComponent { name, policy }),
            None => component.missing_choice(&POLICIES[..4]),
        }
    }
    for name in BUILT_IN {
        if !components.iter().any(|known| known.name == name) {
            let policy = match name {
                "GIT" => default(),
                "DATE" => TagPolicy::DateTime {
                    format: DATE_FORMAT.to_owned(),
                    timezone: None,
                },
                "SHA" => TagPolicy::Latest,
                _ => TagPolicy::InputDigest,
            };
            components.push(TagComponent {
                name: name.to_owned(),
                policy,
            });
        }
    }
    TagPolicy::Custom {
        template,
        components,
    }
}
