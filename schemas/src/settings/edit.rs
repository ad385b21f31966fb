//! Changing one setting in a file and leaving every other byte alone,
//! comments too.

use super::{KEYS, Scope, SettingsFile};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::{self, Content, Map, Node};

/// A setting cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no such setting.
    #[error("there is no setting `{key}`; {}", suggestion(.key))]
    UnknownKey {
        /// What was asked for.
        key: String,
    },
    /// The value does not fit the setting.
    #[error("`{key}` must be true or false, not `{value}`")]
    NotBoolean {
        /// The setting.
        key: String,
        /// What was given.
        value: String,
    },
    /// The file is not valid as it is.
    #[error("the file must be corrected first")]
    Invalid(#[source] Diagnostic),
    /// The file is written in a way that this edit does not handle.
    #[error("line {line} is written in braces; change the setting by hand")]
    FlowStyle {
        /// 1-based line.
        line: usize,
    },
}

fn suggestion(key: &str) -> String {
    match did_you_mean(key, KEYS) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the settings are {}", KEYS.join(", ")),
    }
}

/// The text with a setting set. `insecure-registries` gains an entry, as in
/// skaffold; the others are replaced.
pub fn set(text: &str, scope: &Scope, key: &str, value: &str) -> Result<String, EditError> {
    let (document, settings) = parse(text, key)?;
    let written = match key {
        "multi-level-repo" if !matches!(value, "true" | "false") => {
            return Err(EditError::NotBoolean {
                key: key.to_owned(),
                value: value.to_owned(),
            });
        }
        "multi-level-repo" => value.to_owned(),
        "insecure-registries" => {
            let mut hosts = match scope {
                Scope::Global => settings.global.insecure_registries,
                Scope::Context(name) => {
                    settings
                        .contexts
                        .get(name)
                        .cloned()
                        .unwrap_or_default()
                        .insecure_registries
                }
            };
            if !hosts.iter().any(|known| known == value) {
                hosts.push(value.to_owned());
            }
            let quoted: Vec<String> = hosts.iter().map(|host| quote(host)).collect();
            format!("[{}]", quoted.join(", "))
        }
        _ => quote(value),
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(section) = document
        .as_ref()
        .and_then(|document| section(document, scope))
    {
        remove(&mut lines, section, key)?;
    }
    insert(lines, scope, key, &written)
}

/// The text without a setting; nothing changes where it is not set.
pub fn unset(text: &str, scope: &Scope, key: &str) -> Result<String, EditError> {
    let (document, _) = parse(text, key)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(section) = document
        .as_ref()
        .and_then(|document| section(document, scope))
    {
        remove(&mut lines, section, key)?;
    }
    Ok(finish(&lines))
}

fn parse(text: &str, key: &str) -> Result<(Option<Node>, SettingsFile), EditError> {
    if !KEYS.contains(&key) {
        return Err(EditError::UnknownKey {
            key: key.to_owned(),
        });
    }
    let file = "config.yaml";
    let settings = SettingsFile::parse(text, file)
        .map_err(|mut errors| EditError::Invalid(errors.remove(0)))?;
    let mut documents = yaml::parse(text, file).map_err(EditError::Invalid)?;
    let document = if documents.is_empty() {
        None
    } else {
        Some(documents.remove(0))
    };
    Ok((document, settings))
}

fn section<'a>(document: &'a Node, scope: &Scope) -> Option<&'a Map> {
    match scope {
        Scope::Global => document.get("global")?.as_map(),
        Scope::Context(name) => document.get("contexts")?.get(name)?.as_map(),
    }
}

/// Takes a key's lines out: its own and those that are indented deeper.
fn remove(lines: &mut Vec<String>, section: &Map, key: &str) -> Result<(), EditError> {
    let Some(place) = section.key(key) else {
        return Ok(());
    };
    let (first, indent) = (place.span.line - 1, place.span.column - 1);
    if !lines[first].chars().take(indent).all(|c| c == ' ') {
        return Err(EditError::FlowStyle { line: first + 1 });
    }
    let last = section
        .get(key)
        .map_or(first, |node| last_line(node).max(place.span.line) - 1);
    lines.drain(first..=last);
    Ok(())
}

/// The last line of a node, 1-based. A block list or a flow list that spans
/// lines ends with its last item; a closing bracket on its own line follows.
fn last_line(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => node.span.line,
        Content::List(items) => {
            let inside = items.iter().map(last_line).max().unwrap_or(node.span.line);
            let closes_alone = node.span.line_text().is_some_and(|line| {
                let rest: String = line.chars().skip(node.span.column - 1).collect();
                rest.starts_with('[') && !rest.contains(']')
            });
            if closes_alone { inside + 1 } else { inside }
        }
        Content::Map(map) => map
            .iter()
            .map(|(_, node)| last_line(node))
            .max()
            .unwrap_or(node.span.line),
    }
}

/// Puts `key: value` at the head of its section, which is made where it is
/// not there.
fn insert(
    mut lines: Vec<String>,
    scope: &Scope,
    key: &str,
    value: &str,
) -> Result<String, EditError> {
    let path: Vec<String> = match scope {
        Scope::Global => vec!["global".to_owned()],
        Scope::Context(name) => vec!["contexts".to_owned(), name.clone()],
    };
    let text = finish(&lines);
    let document = yaml::parse(&text, "config.yaml").map_err(EditError::Invalid)?;
    let mut node = document.first();
    let mut parent: Option<(usize, usize)> = None;
    let mut depth = 0;
    while let Some(key) = path.get(depth).and_then(|name| node?.as_map()?.key(name)) {
        let (line, indent) = (key.span.line - 1, key.span.column - 1);
        if !opens_block(&lines[line]) {
            return Err(EditError::FlowStyle { line: line + 1 });
        }
        parent = Some((line, indent));
        node = node.and_then(|node| node.get(&path[depth]));
        depth += 1;
    }
    let child_indent = node
        .and_then(Node::as_map)
        .and_then(|map| map.iter().next().map(|(key, _)| key.span.column - 1));
    let mut indent = match (parent, child_indent) {
        (Some(_), Some(indent)) => indent,
        (Some((_, indent)), None) => indent + 2,
        (None, _) => 0,
    };
    let mut block = Vec::new();
    for name in &path[depth..] {
        block.push(format!("{}{}:", " ".repeat(indent), quote(name)));
        indent += 2;
    }
    block.push(format!("{}{key}: {value}", " ".repeat(indent)));
    let at = parent.map_or(lines.len(), |(line, _)| line + 1);
    lines.splice(at..at, block);
    Ok(finish(&lines))
}

/// Whether a section's lines follow its key: `name:` and perhaps a comment.
fn opens_block(line: &str) -> bool {
    let code = line.split(" #").next().unwrap_or_default().trim_end();
    code.ends_with(':')
}

fn finish(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// A scalar, in quotes unless every reader takes it for the same string.
fn quote(text: &str) -> String {
    let safe =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_' | ':' | '@');
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(safe)
        && !text.ends_with(':')
        && yaml::is_plain_string(text);
    if plain {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}
