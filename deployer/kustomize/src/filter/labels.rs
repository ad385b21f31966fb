//! Labels and annotations.

use super::fieldspec::{self, Create, FieldSpec};
use crate::Error;
use crate::resource::Strings;
use crate::yaml::{Kind, Node, NodeId, Tag, Tree, ops};

/// Puts entries at the places of a resource. One entry is one node at all of
/// its places, so that a later change at one of them shows at all.
pub(crate) fn set(
    t: &mut Tree,
    node: NodeId,
    entries: &Strings,
    places: &[FieldSpec],
) -> Result<(), Error> {
    let create = Create {
        kind: Kind::Mapping,
        tag: Tag::Map,
    };
    for (key, text) in entries {
        let mut value = Node::scalar(text);
        value.tag = Tag::Str;
        let value = t.add(value);
        for place in places {
            fieldspec::apply(t, node, place, Some(&create), &mut |t, map| {
                ops::set_field(t, map, key, value)?;
                Ok(())
            })?;
        }
    }
    Ok(())
}
