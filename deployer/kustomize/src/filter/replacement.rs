//! Replacements: the value of one field copied to others.

use super::path_match;
use crate::Error;
use crate::resid::ResId;
use crate::resource;
use crate::selector::Selector;
use crate::yaml::ops;
use crate::yaml::{Kind, Node, NodeId, Tree};

/// What is copied where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replacement {
    pub(crate) source: Option<Source>,
    pub(crate) value: Option<String>,
    pub(crate) targets: Option<Vec<Target>>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) id: ResId,
    pub(crate) field: String,
    pub(crate) options: Option<Options>,
}

/// Where a value goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) fields: Vec<String>,
    pub(crate) options: Option<Options>,
}

/// A part of a value instead of the whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) create: bool,
}

const DEFAULT_FIELD: &str = "metadata.name";

/// Makes replacements in order.
pub(crate) fn apply(t: &mut Tree, nodes: &[NodeId], all: &[Replacement]) -> Result<(), Error> {
    for replacement in all {
        let Some(targets) = &replacement.targets else {
            return Err(Error::ReplacementIncomplete);
        };
        let value = value(t, nodes, replacement)?;
        for target in targets {
            put(t, nodes, value, target)?;
        }
    }
    Ok(())
}

fn value(t: &mut Tree, nodes: &[NodeId], replacement: &Replacement) -> Result<NodeId, Error> {
    let source = match (&replacement.source, &replacement.value) {
        (Some(_), Some(_)) => return Err(Error::ReplacementTwoSources),
        (None, None) => return Err(Error::ReplacementIncomplete),
        (None, Some(value)) => return Ok(t.add(Node::scalar(value))),
        (Some(source), None) => source,
    };
    let node = find_source(t, nodes, &source.id)?;
    let field = if source.field.is_empty() {
        DEFAULT_FIELD
    } else {
        &source.field
    };
    let path = ops::split_bracketed(field);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let found = ops::lookup(t, node, &path)?.filter(|found| !t.is_null_or_empty(*found));
    let Some(found) = found else {
        return Err(Error::ReplacementSourceField {
            field: field.to_owned(),
            source_id: source.id.to_string(),
        });
    };
    let Some(options) = source.options.as_ref().filter(|o| !o.delimiter.is_empty()) else {
        return Ok(found);
    };
    if t[found].kind != Kind::Scalar {
        return Err(Error::ReplacementDelimiter);
    }
    let text = t.text(found).to_owned();
    let part = usize::try_from(options.index)
        .ok()
        .and_then(|index| {
            split(&text, &options.delimiter)
                .nth(index)
                .map(str::to_owned)
        })
        .ok_or_else(|| Error::ReplacementIndex {
            index: options.index,
            value: text.clone(),
        })?;
    let copy = t.copy(found);
    t[copy].value = part;
    Ok(copy)
}

/// Go's `strings.Split`.
fn split<'a>(text: &'a str, delimiter: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(delimiter)
}

fn find_source(t: &Tree, nodes: &[NodeId], selector: &ResId) -> Result<NodeId, Error> {
    let mut found = None;
    for node in nodes {
        let selected = resource::ids_for_selection(t, *node)
            .iter()
            .any(|id| id.is_selected_by(selector));
        if selected && found.replace(*node).is_some() {
            return Err(Error::ReplacementManySources {
                selector: selector.to_string(),
            });
        }
    }
    found.ok_or_else(|| Error::ReplacementNoSource {
        selector: selector.to_string(),
    })
}

fn put(t: &mut Tree, nodes: &[NodeId], value: NodeId, target: &Target) -> Result<(), Error> {
    let Some(select) = &target.select else {
        return Err(Error::ReplacementNoTarget);
    };
    let labels = select.labels()?;
    let rejects: Vec<_> = target
        .reject
        .iter()
        .map(|reject| Ok((reject, reject.labels()?)))
        .collect::<Result<_, Error>>()?;
    let default = [DEFAULT_FIELD.to_owned()];
    let fields = if target.fields.is_empty() {
        &default[..]
    } else {
        &target.fields
    };
    for node in nodes {
        let ids = resource::ids_for_selection(t, *node);
        let rejected = rejects.iter().any(|(reject, labels)| {
            (reject.has_labels() && labels.matches(t, *node))
                || (!reject.id.is_empty() && ids.iter().any(|id| id.is_selected_by(&reject.id)))
        });
        let selected =
            labels.matches(t, *node) && ids.iter().any(|id| id.is_selected_by(&select.id));
        if selected && !rejected {
            for field in fields {
                copy(t, *node, value, field, target.options.as_ref())?;
            }
        }
    }
    Ok(())
}

fn copy(
    t: &mut Tree,
    node: NodeId,
    value: NodeId,
    field: &str,
    options: Option<&Options>,
) -> Result<(), Error> {
    let create = options
        .filter(|options| options.create)
        .map(|_| t[value].kind);
    let path = ops::split_bracketed(field);
    let missing = |create: Option<Kind>| Error::ReplacementTargetField {
        field: field.to_owned(),
        verb: if create.is_some() {
            "found or created"
        } else {
            "found"
        },
    };
    let found = path_match::find(t, node, &path, create).map_err(|source| Error::Field {
        field: field.to_owned(),
        resource: format!(
            "{} {}",
            ops::top(t, node, "kind"),
            ops::meta(t, node, "name")
        ),
        source: Box::new(source.into()),
    })?;
    if found.is_empty() {
        return Err(missing(create));
    }
    for target in found {
        set(t, target, value, options)?;
    }
    Ok(())
}

fn set(
    t: &mut Tree,
    target: NodeId,
    value: NodeId,
    options: Option<&Options>,
) -> Result<(), Error> {
    let copy = t.copy(value);
    if let Some(options) = options.filter(|options| !options.delimiter.is_empty()) {
        if t[target].kind != Kind::Scalar {
            return Err(Error::ReplacementDelimiter);
        }
        let text = t[target].value.clone();
        let mut parts: Vec<&str> = split(&text, &options.delimiter).collect();
        let new = t.text(value).to_owned();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, &new),
            Ok(index) => match parts.get_mut(index) {
                Some(part) => *part = &new,
                None => parts.push(&new),
            },
        }
        t[copy].value = parts.join(&options.delimiter);
    }
    if t[target].kind == Kind::Scalar {
        t[target].value = t[copy].value.clone();
    } else {
        t[target] = t[copy].clone();
    }
    Ok(())
}
