//! A YAML document as a tree whose nodes know where they were written.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A text with the name that messages give it.
#[derive(PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// Keeps a copy of the text, for the snippets of messages.
    pub fn new(name: &str, text: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    source: Arc<Source>,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Length on that line, in characters.
    pub length: usize,
}

impl Span {
    pub(crate) fn new(source: &Arc<Source>, line: usize, column: usize, length: usize) -> Self {
        Self {
            source: Arc::clone(source),
            line,
            column,
            length,
        }
    }

    /// The file as the user named it.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// The line it points into.
    pub fn line_text(&self) -> Option<&str> {
        self.source.text.lines().nth(self.line.checked_sub(1)?)
    }
}

/// One node. Two nodes are equal when their values are; places do not count.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it holds.
    pub content: Content,
    /// Where it was written; inside an alias, where the anchor was.
    pub span: Span,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// A scalar.
    Scalar {
        /// As written, after YAML's escapes.
        text: String,
        /// What it means: null, a boolean, a number or a string.
        value: Value,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Where it was written.
    pub span: Span,
}

/// A mapping in file order; keys are unique.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: Vec<(Key, Node)>,
}

impl Map {
    /// The entries in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Node)> {
        self.entries.iter().map(|(key, node)| (key, node))
    }

    /// The entries in file order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Node)> {
        self.entries.iter_mut().map(|(key, node)| (&*key, node))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.iter_mut()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }

    /// The key itself, for its place.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.iter()
            .find(|(key, _)| key.name == name)
            .map(|(key, _)| key)
    }

    /// Sets a value; a key that exists keeps its place in the order.
    pub fn insert(&mut self, key: Key, node: Node) {
        match self
            .entries
            .iter_mut()
            .find(|(known, _)| known.name == key.name)
        {
            Some(entry) => *entry = (key, node),
            None => self.entries.push((key, node)),
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, name: &str) -> Option<(Key, Node)> {
        let index = self.entries.iter().position(|(key, _)| key.name == name)?;
        Some(self.entries.remove(index))
    }

    /// Keeps the entries for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Key, &Node) -> bool) {
        self.entries.retain(|(key, node)| keep(key, node));
    }
}

impl Node {
    /// A string that was not written but stands where `span` points.
    pub(crate) fn string(span: &Span, text: &str) -> Self {
        let content = Content::Scalar {
            text: text.to_owned(),
            value: Value::String(text.to_owned()),
        };
        Self {
            content,
            span: span.clone(),
        }
    }

    /// A list that was not written.
    pub(crate) fn list(span: &Span, items: Vec<Self>) -> Self {
        Self {
            content: Content::List(items),
            span: span.clone(),
        }
    }

    /// A mapping that was not written.
    pub(crate) fn map(span: &Span) -> Self {
        Self {
            content: Content::Map(Map::default()),
            span: span.clone(),
        }
    }

    /// The mapping, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.content {
            Content::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The mapping, if it is one, to be changed.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.content {
            Content::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// The items, if it is a list, to be changed.
    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Self>> {
        match &mut self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// A scalar's text as written: `1.20` stays `1.20`. Null has none.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar {
                value: Value::Null, ..
            } => None,
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.content {
            Content::Scalar { value, .. } => value.as_bool(),
            _ => None,
        }
    }

    /// Whether it is null or empty.
    pub fn is_null(&self) -> bool {
        matches!(
            &self.content,
            Content::Scalar {
                value: Value::Null,
                ..
            }
        )
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_map()?.get(name)
    }

    /// What it is, for messages: `a list`, `a number`, ….
    pub fn describe(&self) -> &'static str {
        match &self.content {
            Content::Scalar {
                value: Value::Null, ..
            } => "nothing",
            Content::Scalar {
                value: Value::Bool(_),
                ..
            } => "a boolean",
            Content::Scalar {
                value: Value::Number(_),
                ..
            } => "a number",
            Content::Scalar { .. } => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The same without places.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar { value, .. } => value.clone(),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Map(map) => map
                .iter()
                .map(|(key, node)| (key.name.clone(), node.to_value()))
                .collect(),
        }
    }

    /// The node that a JSON pointer (RFC 6901) leads to.
    pub fn pointer(&self, pointer: &str) -> Option<&Self> {
        let mut node = self;
        for segment in pointer.split('/').skip(1) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            node = match &node.content {
                Content::Map(map) => map.get(&name)?,
                Content::List(items) => items.get(name.parse::<usize>().ok()?)?,
                Content::Scalar { .. } => return None,
            };
        }
        Some(node)
    }
}
