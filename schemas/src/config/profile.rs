//! `profiles`: variants of a document.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::yaml::{Content, Map as NodeMap, Node};

/// A variant of the document.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileSection {
    /// When it is active by itself; all that is given must hold. Without it,
    /// only `--profile` activates the profile.
    pub when: Option<When>,
    /// Laid over the document as a merge patch (RFC 7386): mappings are
    /// merged key by key, everything else is replaced, null removes. `images`
    /// are matched by their `name`: known ones are merged, new ones added.
    #[serde(default)]
    pub merge: Map<String, Value>,
}

/// When a profile is active by itself. Patterns are regular expressions that
/// may match anywhere; a leading `!` negates.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct When {
    /// Patterns for environment variables. An empty one means unset or empty.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Pattern for the kube-context.
    pub context: Option<String>,
    /// Pattern for the command: dev, run, build, ….
    pub command: Option<String>,
}

/// Lays `patch` over `target`.
pub(super) fn merge(target: &mut NodeMap, patch: &NodeMap) {
    for (key, value) in patch.iter() {
        if value.is_null() {
            target.remove(&key.name);
            continue;
        }
        let by_name = key.name == "images";
        match (
            target.get_mut(&key.name).map(|node| &mut node.content),
            &value.content,
        ) {
            (Some(Content::Map(known)), Content::Map(patch)) => merge(known, patch),
            (Some(Content::List(known)), Content::List(patch)) if by_name => {
                merge_named(known, patch);
            }
            _ => target.insert(key.clone(), value.clone()),
        }
    }
}

fn merge_named(known: &mut Vec<Node>, patch: &[Node]) {
    let name = |node: &Node| node.get("name").and_then(Node::as_text).map(str::to_owned);
    for item in patch {
        let same = known
            .iter_mut()
            .find(|node| name(node).is_some() && name(node) == name(item));
        match (same.and_then(Node::as_map_mut), item.as_map()) {
            (Some(known), Some(patch)) => merge(known, patch),
            _ => known.push(item.clone()),
        }
    }
}
