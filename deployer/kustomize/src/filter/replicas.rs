//! Replica counts.

use super::fieldspec::{self, Create, FieldSpec};
use crate::Error;
use crate::resmap::ResMap;
use crate::work::Work;
use crate::yaml::{Kind, Node, Tag, ops};

/// Sets the count of every resource with a name, at the places where kinds
/// keep it.
pub(crate) fn set(
    work: &mut Work,
    map: &ResMap,
    name: &str,
    count: i64,
    places: &[FieldSpec],
) -> Result<(), Error> {
    let create = Create {
        kind: Kind::Scalar,
        tag: Tag::Int,
    };
    let mut found = false;
    for place in places {
        let matches = map.with_any_id(work, |id| id.name == name && id.gvk.is_selected(&place.gvk));
        for at in matches {
            found = true;
            let Some(node) = map.list[at].node else {
                continue;
            };
            fieldspec::apply(
                &mut work.tree,
                node,
                place,
                Some(&create),
                &mut |t, field| {
                    let mut value = Node::scalar(count.to_string());
                    value.tag = Tag::Int;
                    ops::set_scalar(t, field, value)?;
                    Ok(())
                },
            )?;
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = places.iter().map(|place| place.gvk.to_string()).collect();
    Err(Error::NoReplicas {
        name: name.to_owned(),
        kinds: kinds.join(", "),
    })
}
