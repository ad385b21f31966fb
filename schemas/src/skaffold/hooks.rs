//! Lifecycle hooks: commands on this host; those in containers are refused.

use crate::environment::Environment;
use crate::fields::Fields;
use crate::model::{HookPair, HostHook, RenderHook};

const CONTAINER: &str =
    "run the command on this host (`host` with `kubectl exec`), or in the image itself";

/// `before` and `after` whose items are host hooks themselves (build).
pub(super) fn host_only(fields: Option<Fields<'_>>, environment: &Environment) -> HookPair {
    let Some(fields) = fields else {
        return HookPair::default();
    };
    let read = |name| {
        fields
            .sections(name)
            .filter_map(|item| host(&item, environment))
            .collect()
    };
    HookPair {
        before: read("before"),
        after: read("after"),
    }
}

/// `before` and `after` whose items say `host` or `container` (sync, deploy).
pub(super) fn host_or_container(fields: Option<Fields<'_>>, environment: &Environment) -> HookPair {
    let Some(fields) = fields else {
        return HookPair::default();
    };
    let read = |name| {
        let items = fields.sections(name);
        items
            .filter_map(|item| host_item(&item, environment))
            .collect()
    };
    HookPair {
        before: read("before"),
        after: read("after"),
    }
}

/// Hooks around rendering; one after it may rewrite the manifests.
pub(super) fn render(
    fields: Option<Fields<'_>>,
    environment: &Environment,
) -> (Vec<HostHook>, Vec<RenderHook>) {
    let Some(fields) = fields else {
        return Default::default();
    };
    let before = fields
        .sections("before")
        .filter_map(|item| host_item(&item, environment));
    let after = fields.sections("after").filter_map(|item| {
        let section = item.section("host")?;
        let with_change = section.flag("withChange");
        Some(RenderHook {
            hook: host(&section, environment)?,
            with_change,
        })
    });
    (before.collect(), after.collect())
}

fn host_item(item: &Fields<'_>, environment: &Environment) -> Option<HostHook> {
    item.one_of(&["host", "container"]);
    item.refuse_section("container", CONTAINER);
    host(&item.section("host")?, environment)
}

fn host(fields: &Fields<'_>, environment: &Environment) -> Option<HostHook> {
    let hook = HostHook {
        command: fields.strings("command"),
        os: fields.strings("os"),
        dir: fields
            .string("dir")
            .filter(|dir| !dir.is_empty())
            .map(|dir| environment.resolve(&environment.cwd, &dir)),
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    if hook.command.is_empty() {
        fields.missing("command");
        return None;
    }
    Some(hook)
}
