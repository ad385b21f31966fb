//! Which resources a patch or replacement means.

use std::collections::BTreeSet;

use regex::Regex;

use crate::Error;
use crate::resid::ResId;
use crate::resource::{self, Strings};
use crate::work::Work;
use crate::yaml::{NodeId, Tree, ops};

/// Expressions for group, version, kind, name and namespace, and selectors
/// for labels and annotations. Empty fields select all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    pub(crate) id: ResId,
    pub(crate) annotations: String,
    pub(crate) labels: String,
}

impl Selector {
    /// Whether it looks at labels or annotations.
    pub(crate) fn has_labels(&self) -> bool {
        !self.annotations.is_empty() || !self.labels.is_empty()
    }

    /// The part that looks at labels and annotations.
    pub(crate) fn labels(&self) -> Result<Marks, Error> {
        Ok(Marks {
            annotations: Requirements::read(&self.annotations)?,
            labels: Requirements::read(&self.labels)?,
        })
    }

    /// Makes it ready for use.
    pub(crate) fn compile(&self) -> Result<Compiled, Error> {
        Ok(Compiled {
            group: anchored(&self.id.gvk.group)?,
            version: anchored(&self.id.gvk.version)?,
            kind: anchored(&self.id.gvk.kind)?,
            name: anchored(&self.id.name)?,
            namespace: anchored(&self.id.namespace)?,
            marks: self.labels()?,
        })
    }
}

fn anchored(pattern: &str) -> Result<Option<Regex>, Error> {
    if pattern.is_empty() {
        return Ok(None);
    }
    Regex::new(&format!("^(?:{pattern})$"))
        .map(Some)
        .map_err(|_| Error::Regex {
            pattern: pattern.to_owned(),
        })
}

/// A selector that is ready.
#[derive(Debug)]
pub(crate) struct Compiled {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    marks: Marks,
}

impl Compiled {
    /// Whether a resource is meant, by its first or its current name.
    pub(crate) fn selects(&self, work: &Work, node: NodeId) -> bool {
        let fits = |pattern: &Option<Regex>, text: &str| {
            pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(text))
        };
        let current = resource::id(work, node);
        let original = resource::original_id(work, node);
        (fits(&self.namespace, original.effective_namespace())
            || fits(&self.namespace, current.effective_namespace()))
            && (fits(&self.name, &original.name) || fits(&self.name, &current.name))
            && fits(&self.group, &current.gvk.group)
            && fits(&self.version, &current.gvk.version)
            && fits(&self.kind, &current.gvk.kind)
            && self.marks.matches(&work.tree, node)
    }
}

/// What labels and annotations have to be.
#[derive(Debug)]
pub(crate) struct Marks {
    annotations: Requirements,
    labels: Requirements,
}

impl Marks {
    /// Whether a resource has them.
    pub(crate) fn matches(&self, t: &Tree, node: NodeId) -> bool {
        self.annotations.matches(t, node, "annotations") && self.labels.matches(t, node, "labels")
    }
}

/// A label selector of Kubernetes.
#[derive(Debug, Default)]
struct Requirements(Vec<Requirement>);

#[derive(Debug)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug)]
enum Operator {
    Exists,
    Missing,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Greater(i64),
    Less(i64),
}

impl Requirements {
    fn matches(&self, t: &Tree, node: NodeId, map: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let marks = ops::meta_map(t, node, map);
        self.0.iter().all(|requirement| requirement.matches(&marks))
    }

    fn read(text: &str) -> Result<Self, Error> {
        let wrong = || Error::LabelSelector {
            selector: text.to_owned(),
        };
        let tokens = tokens(text);
        let mut rest = tokens.as_slice();
        let mut all = Vec::new();
        if rest.is_empty() {
            return Ok(Self(all));
        }
        loop {
            all.push(requirement(&mut rest).ok_or_else(wrong)?);
            match rest.split_first() {
                None => return Ok(Self(all)),
                Some((comma, tail)) if comma == "," && !tail.is_empty() => rest = tail,
                _ => return Err(wrong()),
            }
        }
    }
}

impl Requirement {
    fn matches(&self, marks: &Strings) -> bool {
        let value = marks.get(&self.key);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::Exists => value.is_some(),
            Operator::Missing => value.is_none(),
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Greater(limit) => number().is_some_and(|number| number > *limit),
            Operator::Less(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '(' | ')' | ',' | '<' | '>' => tokens.push(c.to_string()),
            '=' | '!' => {
                let double = chars.next_if_eq(&'=').is_some();
                tokens.push(if double {
                    format!("{c}=")
                } else {
                    c.to_string()
                });
            }
            c => {
                let mut word = c.to_string();
                while let Some(next) = chars.next_if(|c| !" \t\r\n(),<>=!".contains(*c)) {
                    word.push(next);
                }
                tokens.push(word);
            }
        }
    }
    tokens
}

fn requirement(rest: &mut &[String]) -> Option<Requirement> {
    let mut take = || {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        Some(first.as_str())
    };
    let first = take()?;
    if first == "!" {
        let key = take().filter(|key| is_name(key))?.to_owned();
        return Some(Requirement {
            key,
            operator: Operator::Missing,
        });
    }
    let key = Some(first).filter(|key| is_name(key))?.to_owned();
    let operator = match rest.first().map(String::as_str) {
        None | Some(",") => Operator::Exists,
        Some(operator) => {
            *rest = &rest[1..];
            operator_of(operator, rest)?
        }
    };
    Some(Requirement { key, operator })
}

fn operator_of(operator: &str, rest: &mut &[String]) -> Option<Operator> {
    match operator {
        "=" | "==" => Some(Operator::In([exact(rest)?].into())),
        "!=" => Some(Operator::NotIn([exact(rest)?].into())),
        "in" => Some(Operator::In(set(rest)?)),
        "notin" => Some(Operator::NotIn(set(rest)?)),
        ">" => Some(Operator::Greater(exact(rest)?.parse().ok()?)),
        "<" => Some(Operator::Less(exact(rest)?.parse().ok()?)),
        _ => None,
    }
}

fn exact(rest: &mut &[String]) -> Option<String> {
    match rest.split_first() {
        None => Some(String::new()),
        Some((comma, _)) if comma == "," => Some(String::new()),
        Some((value, tail)) => {
            *rest = tail;
            Some(value).filter(|value| is_value(value)).cloned()
        }
    }
}

fn set(rest: &mut &[String]) -> Option<BTreeSet<String>> {
    let (open, mut tail) = rest.split_first()?;
    if open != "(" {
        return None;
    }
    let mut values = BTreeSet::new();
    let mut value = String::new();
    loop {
        let (token, next) = tail.split_first()?;
        tail = next;
        match token.as_str() {
            ")" => {
                values.insert(value);
                *rest = tail;
                return Some(values);
            }
            "," => {
                values.insert(std::mem::take(&mut value));
            }
            word if value.is_empty() && is_value(word) => word.clone_into(&mut value),
            _ => return None,
        }
    }
}

/// Letters, digits, `-`, `_` and `.`, the first and last a letter or digit.
fn is_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.len() <= 63
                && bytes.iter().copied().all(inner)
        }
        _ => true,
    }
}

/// A value that is not empty, behind an optional domain.
fn is_name(text: &str) -> bool {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    let is_domain = |domain: &str| {
        !domain.is_empty()
            && domain.len() <= 253
            && domain.split('.').all(|part| {
                !part.is_empty()
                    && !part.starts_with('-')
                    && !part.ends_with('-')
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    };
    !name.is_empty() && is_value(name) && domain.is_none_or(is_domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_select() {
        let marks: Strings = [("app", "web"), ("tier", "2")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let matches = |text: &str| {
            let all = Requirements::read(text).unwrap();
            all.0.iter().all(|requirement| requirement.matches(&marks))
        };
        for text in [
            "app",
            "!x",
            "app=web",
            "app == web,tier!=3",
            "app in (web, db)",
            "app notin (db)",
            "tier>1",
            "tier<3",
            "",
        ] {
            assert!(matches(text), "{text}");
        }
        for text in ["x", "!app", "app=db", "app notin (web)", "tier>2"] {
            assert!(!matches(text), "{text}");
        }
        for text in ["app in web", "=a", "app=web,", "a b", "app=-x", "tier>x"] {
            assert!(Requirements::read(text).is_err(), "{text}");
        }
    }
}
