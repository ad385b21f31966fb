//! Name prefixes and suffixes.

use super::fieldspec::{self, Create, FieldSpec};
use crate::Error;
use crate::resid::Gvk;
use crate::resource;
use crate::work::Work;
use crate::yaml::{Kind, Node, NodeId, Tag, ops};

/// What is put to a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Affix<'a> {
    Prefix(&'a str),
    Suffix(&'a str),
}

impl Affix<'_> {
    fn is_empty(self) -> bool {
        match self {
            Self::Prefix(text) | Self::Suffix(text) => text.is_empty(),
        }
    }

    fn join(self, name: &str) -> String {
        match self {
            Self::Prefix(prefix) => format!("{prefix}{name}"),
            Self::Suffix(suffix) => format!("{name}{suffix}"),
        }
    }
}

/// Kinds whose names mean something to others.
fn is_exempt(gvk: &Gvk) -> bool {
    match gvk.kind.as_str() {
        "CustomResourceDefinition" | "Namespace" => true,
        "APIService" => gvk.group == "apiregistration.k8s.io",
        _ => false,
    }
}

/// Puts a prefix or suffix to the names of a resource.
pub(crate) fn add(
    work: &mut Work,
    node: NodeId,
    affix: Affix<'_>,
    places: &[FieldSpec],
) -> Result<(), Error> {
    let id = resource::original_id(work, node);
    if is_exempt(&id.gvk) {
        return Ok(());
    }
    let create = Create {
        kind: Kind::Scalar,
        tag: Tag::Str,
    };
    for place in places.iter().filter(|place| id.gvk.is_selected(&place.gvk)) {
        if place.path == "metadata/name" {
            match affix {
                Affix::Prefix(text) => resource::add_prefix(&mut work.tree, node, text)?,
                Affix::Suffix(text) => resource::add_suffix(&mut work.tree, node, text)?,
            }
            if !affix.is_empty() {
                resource::store_previous_id(work, node)?;
            }
        }
        fieldspec::apply(
            &mut work.tree,
            node,
            place,
            Some(&create),
            &mut |t, name| {
                let joined = affix.join(&t[name].value);
                ops::set_scalar(t, name, Node::scalar(joined))?;
                Ok(())
            },
        )?;
    }
    Ok(())
}
