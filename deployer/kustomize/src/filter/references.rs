//! References by name: where a resource was renamed, those that name it
//! follow.

use std::collections::{BTreeSet, HashMap};

use super::fieldspec::{self, FieldSpec};
use crate::Error;
use crate::config::BackReferences;
use crate::resid::{Gvk, ResId};
use crate::resmap::ResMap;
use crate::resource;
use crate::work::Work;
use crate::yaml::ops::{self, PathError};
use crate::yaml::{Kind, Node, NodeId, Tree};

/// What is known of a resource while references are followed.
struct Known {
    node: NodeId,
    original: ResId,
    current: ResId,
    previous: Vec<ResId>,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
}

impl Known {
    fn new(work: &Work, node: NodeId) -> Self {
        let current = resource::id(work, node);
        let previous = resource::previous_ids(&work.tree, node);
        let (prefixes, suffixes) = resource::affixes(&work.tree, node);
        Self {
            node,
            original: previous.first().unwrap_or(&current).clone(),
            current,
            previous,
            prefixes,
            suffixes,
        }
    }

    fn was(&self, gvk: &Gvk) -> bool {
        self.previous.iter().any(|id| id.gvk.is_selected(gvk))
    }

    fn same_affixes(&self, other: &Self, allow_empty: bool) -> bool {
        let same = |a: &[String], b: &[String]| {
            (allow_empty && (a.is_empty() || b.is_empty())) || same_ending(a, b)
        };
        same(&self.prefixes, &other.prefixes) && same(&self.suffixes, &other.suffixes)
    }
}

/// Whether two lists end alike, as far as the shorter one goes. An empty list
/// is like an empty list only.
fn same_ending(a: &[String], b: &[String]) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    if short.is_empty() {
        return long.is_empty();
    }
    long.ends_with(short)
}

/// Updates every reference.
pub(crate) fn follow(work: &mut Work, map: &ResMap, rules: &[BackReferences]) -> Result<(), Error> {
    let all: Vec<Known> = map
        .nodes()
        .into_iter()
        .map(|node| Known::new(work, node))
        .collect();
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, known) in all.iter().enumerate() {
        let names: BTreeSet<&str> = known.previous.iter().map(|id| id.name.as_str()).collect();
        for name in names {
            by_name.entry(name).or_default().push(at);
        }
    }
    for referrer in &all {
        let namespaces = subject_namespaces(&work.tree, referrer)?;
        for rule in rules {
            for place in &rule.referrers {
                if referrer.original.gvk.is_selected(&place.gvk) {
                    let search = Search {
                        all: &all,
                        by_name: &by_name,
                        referrer,
                        namespaces: &namespaces,
                        target: &rule.gvk,
                        place,
                    };
                    search.run(&mut work.tree)?;
                }
            }
        }
    }
    Ok(())
}

/// Namespaces of the service accounts that a role binding names.
fn subject_namespaces(t: &Tree, referrer: &Known) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    if referrer.current.gvk.kind != "RoleBinding" {
        return Ok(found);
    }
    let subjects = t.get(referrer.node, "subjects");
    let items = subjects
        .filter(|list| t[*list].kind == Kind::Sequence)
        .map(|list| t[list].content.clone())
        .unwrap_or_default();
    for subject in items {
        ops::expect(t, subject, Kind::Mapping)?;
        let (Some(namespace), Some(kind)) = (t.get(subject, "namespace"), t.get(subject, "kind"))
        else {
            continue;
        };
        if t[kind].value == "ServiceAccount" {
            if !t.is_string(namespace) {
                return Err(Error::SubjectNamespace {
                    id: referrer.current.to_string(),
                });
            }
            found.insert(t[namespace].value.clone());
        }
    }
    Ok(found)
}

struct Search<'a> {
    all: &'a [Known],
    by_name: &'a HashMap<&'a str, Vec<usize>>,
    referrer: &'a Known,
    namespaces: &'a BTreeSet<String>,
    target: &'a Gvk,
    place: &'a FieldSpec,
}

impl<'a> Search<'a> {
    fn run(&self, t: &mut Tree) -> Result<(), Error> {
        fieldspec::apply_path(t, self.referrer.node, self.place, None, &mut |t, node| {
            if t.is_null(node) {
                return Ok(());
            }
            match t[node].kind {
                Kind::Sequence => {
                    for item in t[node].content.clone() {
                        if !t.is_null(item) {
                            self.one(t, item)?;
                        }
                    }
                    Ok(())
                }
                _ => self.one(t, node),
            }
        })
    }

    fn one(&self, t: &mut Tree, node: NodeId) -> Result<(), Error> {
        match t[node].kind {
            Kind::Scalar => self.scalar(t, node),
            Kind::Mapping => self.mapping(t, node),
            other => Err(PathError::WrongKind {
                expected: "a name, a mapping or a list of these",
                found: other.name(),
            }
            .into()),
        }
    }

    fn scalar(&self, t: &mut Tree, node: NodeId) -> Result<(), Error> {
        let old = t[node].value.clone();
        let candidates = self.named(&old);
        if candidates.is_empty() {
            return Ok(());
        }
        let found = self.select(t, candidates, |a, b| a.name == b.name)?;
        let Some(found) = found.filter(|found| found.current.name != old) else {
            return Ok(());
        };
        ops::set_scalar(t, node, Node::scalar(found.current.name.as_str()))?;
        Ok(())
    }

    fn mapping(&self, t: &mut Tree, node: NodeId) -> Result<(), Error> {
        let Some(name) = ops::field(t, node, "name")? else {
            return Err(Error::NoNameField);
        };
        let old = t[name].value.clone();
        let mut candidates = self.named(&old);
        if let Some(namespace) = ops::field(t, node, "namespace")? {
            candidates = self.in_namespace(candidates, &t[namespace].value);
        }
        let same = |a: &ResId, b: &ResId| a.name == b.name && a.namespace == b.namespace;
        let Some(found) = self.select(t, candidates, same)? else {
            return Ok(());
        };
        let id = &found.current;
        if id.name == old && id.namespace.is_empty() {
            return Ok(());
        }
        let name = t.add(Node::scalar(id.name.as_str()));
        ops::set_field(t, node, "name", name)?;
        if !id.namespace.is_empty() {
            let namespace = t.add(Node::scalar(id.namespace.as_str()));
            ops::set_field(t, node, "namespace", namespace)?;
        }
        Ok(())
    }

    /// Resources that had a name and that the referrer can see.
    fn named(&self, name: &str) -> Vec<&'a Known> {
        let places = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .map(|at| &self.all[*at])
            .filter(|candidate| self.sees(candidate))
            .collect()
    }

    fn sees(&self, candidate: &Known) -> bool {
        self.referrer.current.cluster_scoped
            || candidate.current.cluster_scoped
            || candidate.current.same_namespace(&self.referrer.current)
            || self.namespaces.contains(&candidate.current.namespace)
    }

    /// Those that lived in a namespace; without any that could be seen from
    /// here, those that live there now.
    fn in_namespace(&self, candidates: Vec<&'a Known>, namespace: &str) -> Vec<&'a Known> {
        let lived = |known: &Known| {
            namespace != "_non_namespaceable_" && known.original.effective_namespace() == namespace
        };
        let lives = |known: &Known| {
            namespace != "_non_namespaceable_" && known.current.effective_namespace() == namespace
        };
        let any = self
            .all
            .iter()
            .any(|known| self.sees(known) && lived(known));
        candidates
            .into_iter()
            .filter(|known| if any { lived(known) } else { lives(known) })
            .collect()
    }

    fn select(
        &self,
        t: &Tree,
        mut candidates: Vec<&'a Known>,
        same: impl Fn(&ResId, &ResId) -> bool,
    ) -> Result<Option<&'a Known>, Error> {
        let role = self.role(t);
        let referrer = self.referrer;
        candidates.retain(|known| {
            known.was(self.target)
                && role.as_ref().is_none_or(|role| known.was(role))
                && (referrer.current.cluster_scoped
                    || known.current.cluster_scoped
                    || known.current.gvk.kind == "ServiceAccount"
                    || known.current.same_namespace(&referrer.current))
        });
        if let [one] = candidates[..] {
            return Ok(Some(one));
        }
        candidates.retain(|known| known.same_affixes(referrer, true));
        if candidates.len() > 1 {
            candidates.retain(|known| known.same_affixes(referrer, false));
        }
        let Some(first) = candidates.first() else {
            return Ok(None);
        };
        if candidates
            .iter()
            .all(|known| same(&known.current, &first.current))
        {
            return Ok(Some(first));
        }
        let ids: Vec<String> = candidates.iter().map(|k| k.current.to_string()).collect();
        Err(Error::ManyReferrals {
            ids: ids.join(", "),
        })
    }

    /// What a `roleRef` says about its target.
    fn role(&self, t: &Tree) -> Option<Gvk> {
        if !self.place.path.ends_with("roleRef/name") {
            return None;
        }
        let role = t.get(self.referrer.node, "roleRef")?;
        let text = |name| t.get(role, name).map(|value| t[value].value.clone());
        Some(Gvk {
            group: text("apiGroup")?,
            version: String::new(),
            kind: text("kind")?,
        })
    }
}
