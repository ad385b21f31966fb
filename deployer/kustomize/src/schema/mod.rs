//! What kustomize knows of kinds: merge keys of lists and whether objects
//! live in namespaces. The builtin knowledge is a table; `openapi` replaces or
//! extends it.

mod custom;
mod table;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::Error;
use crate::resid::Gvk;
use crate::yaml::Value;
pub(crate) use custom::CustomSchema;

/// No schema.
const NONE: u16 = u16::MAX;

/// The version of the builtin schema.
const BUILTIN_VERSION: &str = "v1.21.2";

/// One builtin schema with its references resolved.
struct Shape {
    fields: &'static [(&'static str, u16)],
    additional: u16,
    items: u16,
    strategy: &'static str,
    keys: &'static [&'static str],
}

/// A schema of a value.
#[derive(Debug, Clone)]
pub(crate) enum Schema {
    /// A place in the table.
    Builtin(u16),
    /// A schema of `openapi.path`.
    Custom(Rc<CustomSchema>, Rc<Value>),
}

/// How a list is merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListMerge {
    /// Whether items are merged at all.
    pub(crate) merges: bool,
    /// Whether a strategy is given.
    pub(crate) has_strategy: bool,
    /// The fields that name an item; none for lists of plain values.
    pub(crate) keys: Vec<String>,
}

impl Schema {
    fn builtin(place: u16) -> Option<Self> {
        (place != NONE).then_some(Self::Builtin(place))
    }

    fn shape(place: u16) -> &'static Shape {
        &table::SHAPES[usize::from(place)]
    }

    /// The schema of a field.
    pub(crate) fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Builtin(place) => {
                let shape = Self::shape(*place);
                let field = shape
                    .fields
                    .binary_search_by(|(known, _)| known.cmp(&name))
                    .map_or(shape.additional, |at| shape.fields[at].1);
                Self::builtin(field)
            }
            Self::Custom(all, value) => CustomSchema::field(all, value, name),
        }
    }

    /// The schema of the items of a list.
    pub(crate) fn items(&self) -> Option<Self> {
        match self {
            Self::Builtin(place) => Self::builtin(Self::shape(*place).items),
            Self::Custom(all, value) => CustomSchema::items(all, value),
        }
    }

    /// How a list with this schema is merged.
    pub(crate) fn list_merge(&self) -> ListMerge {
        let (strategy, keys) = match self {
            Self::Builtin(place) => {
                let shape = Self::shape(*place);
                let keys = shape.keys.iter().map(|key| (*key).to_owned()).collect();
                (shape.strategy.to_owned(), keys)
            }
            Self::Custom(_, value) => custom::strategy(value),
        };
        ListMerge {
            merges: strategy.split(',').any(|word| word == "merge"),
            has_strategy: !strategy.is_empty(),
            keys,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Builtin {
    /// Nobody asked for it yet.
    #[default]
    Untouched,
    /// It was asked for and is read with the next schema that is read.
    Due,
    Read,
}

/// The schemas of a build. kustomize reads them when it first needs one, and
/// which ones it then has depends on what was asked before; so it does here.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    custom: Option<Rc<CustomSchema>>,
    version: String,
    ready: Cell<bool>,
    builtin: Cell<Builtin>,
    has_builtin: Cell<bool>,
    read: RefCell<Vec<Rc<CustomSchema>>>,
}

impl Schemas {
    /// Takes the `openapi` field of a kustomization. `outermost` is the one
    /// that is built; others count only if nothing was set before.
    pub(crate) fn set(
        &mut self,
        version: Option<&str>,
        custom: Option<CustomSchema>,
        outermost: bool,
    ) -> Result<(), Error> {
        let is_set = !self.version.is_empty() || self.custom.is_some();
        if is_set && !outermost {
            return Ok(());
        }
        if let Some(custom) = custom {
            if version.is_some() {
                return Err(Error::OpenApiTwice);
            }
            self.custom = Some(Rc::new(custom));
            "custom".clone_into(&mut self.version);
            self.ready.set(false);
            return Ok(());
        }
        version.unwrap_or("").clone_into(&mut self.version);
        if self.version.is_empty() {
            return Ok(());
        }
        if self.version != BUILTIN_VERSION {
            return Err(Error::OpenApiVersion {
                version: self.version.clone(),
            });
        }
        self.custom = None;
        self.ready.set(false);
        Ok(())
    }

    fn prepare(&self) {
        if self.ready.replace(true) {
            return;
        }
        if let Some(custom) = &self.custom {
            self.read.borrow_mut().push(Rc::clone(custom));
        } else {
            self.has_builtin.set(true);
            self.builtin.set(Builtin::Read);
        }
        if self.builtin.get() == Builtin::Due {
            self.has_builtin.set(true);
            self.builtin.set(Builtin::Read);
        }
    }

    /// The schema of a kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Schema> {
        self.prepare();
        for custom in self.read.borrow().iter().rev() {
            if let Some(found) = CustomSchema::of_kind(custom, api_version, kind) {
                return Some(found);
            }
        }
        if !self.has_builtin.get() {
            return None;
        }
        table::KINDS
            .binary_search_by(|(version, name, _)| (*version, *name).cmp(&(api_version, kind)))
            .ok()
            .and_then(|at| Schema::builtin(table::KINDS[at].2))
    }

    /// Whether a kind is known to live outside namespaces.
    pub(crate) fn is_cluster_scoped(&self, gvk: &Gvk) -> bool {
        let api_version = gvk.api_version();
        let known = table::SCOPES.binary_search_by(|(version, kind, _)| {
            (*version, *kind).cmp(&(api_version.as_str(), gvk.kind.as_str()))
        });
        if let Ok(at) = known {
            return !table::SCOPES[at].2;
        }
        if !self.ready.get() {
            if self.custom.is_some() || !matches!(self.version.as_str(), "" | BUILTIN_VERSION) {
                self.prepare();
            } else if self.builtin.get() == Builtin::Untouched {
                self.builtin.set(Builtin::Due);
            }
        }
        self.read
            .borrow()
            .iter()
            .rev()
            .find_map(|custom| custom.is_namespaced(&api_version, &gvk.kind))
            .is_some_and(|namespaced| !namespaced)
    }
}

/// The builtin definition of a name.
fn definition(name: &str) -> Option<Schema> {
    table::DEFINITIONS
        .binary_search_by(|(known, _)| known.cmp(&name))
        .ok()
        .and_then(|at| Schema::builtin(table::DEFINITIONS[at].1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_merge_by_name_and_ports_by_two_keys() {
        let schemas = Schemas::default();
        let spec = schemas.of_kind("v1", "Pod").unwrap().field("spec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.list_merge().keys, ["name"]);
        let ports = containers.items().unwrap().field("ports").unwrap();
        assert_eq!(ports.list_merge().keys, ["containerPort", "protocol"]);
        assert!(
            !spec
                .field("hostAliases")
                .unwrap()
                .list_merge()
                .keys
                .is_empty()
        );
        assert!(schemas.of_kind("example.com/v1", "Thing").is_none());
    }

    #[test]
    fn scopes_are_known_for_builtin_kinds_only() {
        let schemas = Schemas::default();
        assert!(schemas.is_cluster_scoped(&Gvk::new("v1", "Namespace")));
        assert!(!schemas.is_cluster_scoped(&Gvk::new("apps/v1", "Deployment")));
        assert!(!schemas.is_cluster_scoped(&Gvk::new("example.com/v1", "ClusterThing")));
    }
}
