//! Places in resources: a kind and a path such as `spec/template/metadata`.

use std::sync::Arc;

use crate::Error;
use crate::resid::Gvk;
use crate::resource;
use crate::yaml::ops::{self, PathError};
use crate::yaml::{Kind, NodeId, Tag, Tree};

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldSpec {
    /// Which resources; empty fields match all.
    pub(crate) gvk: Gvk,
    /// Fields with `/` between them; lists are entered by themselves.
    pub(crate) path: String,
    /// Whether missing fields are created.
    pub(crate) create: bool,
    parts: Arc<[String]>,
}

impl FieldSpec {
    pub(crate) fn new(gvk: Gvk, path: impl Into<String>, create: bool) -> Self {
        let path = path.into();
        let parts = ops::split_path(&path, '/').into();
        Self {
            gvk,
            path,
            create,
            parts,
        }
    }

    /// A place in resources of every kind.
    pub(crate) fn everywhere(path: &str, create: bool) -> Self {
        Self::new(Gvk::default(), path, create)
    }

    fn matches(&self, t: &Tree, node: NodeId) -> bool {
        let text = |name| {
            t.get(node, name)
                .map_or("", |value| t[value].value.as_str())
        };
        if !self.gvk.kind.is_empty() && self.gvk.kind != text("kind") {
            return false;
        }
        if self.gvk.group.is_empty() && self.gvk.version.is_empty() {
            return true;
        }
        let found = resource::gvk(t, node);
        (self.gvk.group.is_empty() || self.gvk.group == found.group)
            && (self.gvk.version.is_empty() || self.gvk.version == found.version)
    }
}

/// What a missing or null place becomes.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    pub(crate) kind: Kind,
    pub(crate) tag: Tag,
}

/// What is done at a place.
pub(crate) type Set<'a> = dyn FnMut(&mut Tree, NodeId) -> Result<(), Error> + 'a;

/// Does something at every place of a resource that a field spec names.
pub(crate) fn apply(
    t: &mut Tree,
    node: NodeId,
    spec: &FieldSpec,
    create: Option<&Create>,
    set: &mut Set<'_>,
) -> Result<(), Error> {
    if !spec.matches(t, node) {
        return Ok(());
    }
    apply_path(t, node, spec, create, set)
}

/// As [`apply`], whatever the kind of the resource.
pub(crate) fn apply_path(
    t: &mut Tree,
    node: NodeId,
    spec: &FieldSpec,
    create: Option<&Create>,
    set: &mut Set<'_>,
) -> Result<(), Error> {
    let mut visit = Visit {
        may_create: spec.create,
        create,
        set,
    };
    visit
        .node(t, node, &spec.parts)
        .map_err(|source| Error::Field {
            field: spec.path.clone(),
            resource: format!(
                "{} {}",
                ops::top(t, node, "kind"),
                ops::meta(t, node, "name")
            ),
            source: Box::new(source),
        })
}

struct Visit<'a, 'b> {
    may_create: bool,
    create: Option<&'a Create>,
    set: &'a mut Set<'b>,
}

impl Visit<'_, '_> {
    fn node(&mut self, t: &mut Tree, node: NodeId, path: &[String]) -> Result<(), Error> {
        let Some((first, rest)) = path.split_first() else {
            return (self.set)(t, node);
        };
        if t.is_null(node) {
            return Ok(());
        }
        match t[node].kind {
            Kind::Sequence => {
                for item in t[node].content.clone() {
                    self.node(t, item, path)?;
                }
                Ok(())
            }
            Kind::Mapping => self.mapping(t, node, first, rest),
            other => Err(PathError::WrongKind {
                expected: "a list or a mapping",
                found: other.name(),
            }
            .into()),
        }
    }

    fn mapping(
        &mut self,
        t: &mut Tree,
        node: NodeId,
        first: &str,
        rest: &[String],
    ) -> Result<(), Error> {
        let name = first.strip_suffix("[]");
        let is_list = name.is_some();
        let name = name.unwrap_or(first);
        if name.is_empty() {
            return Err(Error::EmptyFieldName);
        }
        let (field, becomes) = match self.create {
            Some(create) if self.may_create && !is_list => {
                let becomes = if rest.is_empty() {
                    create.clone()
                } else {
                    Create {
                        kind: Kind::Mapping,
                        tag: Tag::Map,
                    }
                };
                let field = ops::lookup_create(t, node, &[name], becomes.kind)?;
                (field, Some(becomes))
            }
            _ => {
                let becomes = is_list.then_some(Create {
                    kind: Kind::Sequence,
                    tag: Tag::Empty,
                });
                (ops::lookup(t, node, &[name])?, becomes)
            }
        };
        let Some(field) = field else { return Ok(()) };
        if t.is_null(field)
            && let Some(becomes) = becomes
        {
            t[field].kind = becomes.kind;
            t[field].tag = becomes.tag;
        }
        self.node(t, field, rest)
    }
}
