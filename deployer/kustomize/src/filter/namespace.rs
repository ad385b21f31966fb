//! Namespaces.

use super::fieldspec::{self, Create, FieldSpec};
use crate::Error;
use crate::resource;
use crate::work::Work;
use crate::yaml::{Kind, Node, NodeId, Tag, Tree, ops};

/// Which subjects of role bindings get the namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// Those named `default`.
    #[default]
    Default,
    /// Every service account.
    All,
    None,
}

impl Subjects {
    /// Reads `setRoleBindingSubjects`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "" | "defaultOnly" => Some(Self::Default),
            "allServiceAccounts" => Some(Self::All),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// The namespace that is set.
#[derive(Debug)]
pub(crate) struct Namespace<'a> {
    pub(crate) name: &'a str,
    pub(crate) places: &'a [FieldSpec],
    /// Whether namespaces that are there stay.
    pub(crate) unset_only: bool,
    pub(crate) subjects: Subjects,
}

fn is_role_binding(kind: &str) -> bool {
    matches!(kind, "RoleBinding" | "ClusterRoleBinding")
}

impl Namespace<'_> {
    /// Sets the namespace of a resource and what refers to it.
    pub(crate) fn apply(&self, work: &mut Work, node: NodeId) -> Result<(), Error> {
        let gvk = resource::gvk(&work.tree, node);
        let scalar = Create {
            kind: Kind::Scalar,
            tag: Tag::Str,
        };
        if !work.schemas.is_cluster_scoped(&gvk) {
            let place = FieldSpec::everywhere("metadata/namespace", true);
            let create = Create {
                kind: Kind::Scalar,
                tag: Tag::Empty,
            };
            fieldspec::apply(
                &mut work.tree,
                node,
                &place,
                Some(&create),
                &mut |t, field| self.set(t, field),
            )?;
        }
        let binding = is_role_binding(&gvk.kind);
        if binding {
            self.subjects(&mut work.tree, node)?;
        }
        let api_version = ops::top(&work.tree, node, "apiVersion");
        for place in self.places {
            let skip = place.path == "metadata/namespace"
                || (api_version != "v1" && place.path == "metadata/name")
                || (binding
                    && is_role_binding(&place.gvk.kind)
                    && place.path == "subjects/namespace");
            if !skip {
                fieldspec::apply(
                    &mut work.tree,
                    node,
                    place,
                    Some(&scalar),
                    &mut |t, field| self.set(t, field),
                )?;
            }
        }
        Ok(())
    }

    fn set(&self, t: &mut Tree, field: NodeId) -> Result<(), Error> {
        if self.unset_only
            && !t.is_null_or_empty(field)
            && t[field].kind == Kind::Scalar
            && !t.text(field).is_empty()
        {
            return Ok(());
        }
        let mut value = Node::scalar(self.name);
        value.tag = Tag::Str;
        ops::set_scalar(t, field, value)?;
        Ok(())
    }

    fn subjects(&self, t: &mut Tree, node: NodeId) -> Result<(), Error> {
        let (field, wanted) = match self.subjects {
            Subjects::None => return Ok(()),
            Subjects::Default => ("name", "default"),
            Subjects::All => ("kind", "ServiceAccount"),
        };
        let Some(subjects) = ops::lookup(t, node, &["subjects"])? else {
            return Ok(());
        };
        if t.is_null(subjects) {
            return Ok(());
        }
        ops::expect(t, subjects, Kind::Sequence)?;
        for subject in t[subjects].content.clone() {
            let found = match ops::lookup(t, subject, &[field])? {
                Some(found) if !t.is_null(found) => found,
                _ => continue,
            };
            ops::expect(t, found, Kind::Scalar)?;
            if t[found].value == wanted
                && let Some(place) = ops::lookup_create(t, subject, &["namespace"], Kind::Scalar)?
            {
                self.set(t, place)?;
            }
        }
        Ok(())
    }
}
