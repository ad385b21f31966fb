//! `sync`: files that go into running containers without a build.

use super::hooks;
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::fields::Fields;
use crate::model::{ManualSync, Sync, SyncRules};

/// Reads an artifact's `sync`; `sync: {}` infers a destination for every file.
pub(super) fn read(artifact: &Fields<'_>, environment: &Environment) -> Option<Sync> {
    let fields = artifact.section("sync")?;
    fields.one_of(&["manual", "infer", "auto"]);
    let auto = fields.bool("auto");
    if auto == Some(true) {
        let message = format!(
            "`{}` works with buildpacks and jib only",
            fields.path("auto")
        );
        let help = "use `infer` with the globs of the files to copy";
        fields
            .report
            .refusal(Diagnostic::at(fields.place("auto"), message).help(help));
    }
    let manual: Vec<ManualSync> = fields
        .sections("manual")
        .filter_map(|rule| {
            let (src, dest) = (rule.required("src"), rule.required("dest"));
            let strip = rule.string("strip").unwrap_or_default();
            let rule = ManualSync {
                src: src?,
                dest: dest?,
                strip,
            };
            check_strip(&fields, &rule);
            Some(rule)
        })
        .collect();
    let infer = fields.strings("infer");
    let hooks = hooks::host_or_container(fields.section("hooks"), environment);
    let rules = match (manual.is_empty(), infer.is_empty()) {
        (false, _) => SyncRules::Manual(manual),
        (true, false) => SyncRules::Inferred(infer),
        (true, true) if auto.is_some() => return None,
        (true, true) => SyncRules::Inferred(vec!["**/*".to_owned()]),
    };
    Some(Sync { rules, hooks })
}

/// `strip` must be a prefix of `src`, or it could never be cut off
/// (`validation.go`, validateSyncRules).
fn check_strip(fields: &Fields<'_>, rule: &ManualSync) {
    if !rule.src.starts_with(&rule.strip) {
        let message = format!(
            "`strip: {}` is no prefix of `src: {}`",
            rule.strip, rule.src
        );
        fields
            .report
            .error(Diagnostic::at(fields.place("manual"), message));
    }
}
