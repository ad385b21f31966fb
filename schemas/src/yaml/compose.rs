//! Parser events to trees: anchors, aliases, merge keys, duplicate keys.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Tag};
use serde_json::Value;

use super::node::{Content, Key, Map, Node, Source, Span};
use super::scalar::{self, Rules};
use crate::diagnostic::Diagnostic;

/// How many nodes aliases may add to one text: far beyond any file that a
/// person wrote, far below what a "billion laughs" needs.
const ALIAS_BUDGET: usize = 1_000_000;

/// Every document that holds something, in order.
pub(super) fn documents(source: &Arc<Source>, rules: Rules) -> Result<Vec<Node>, Diagnostic> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(source.text(), options);
    let mut composer = Composer {
        source,
        rules,
        events: parser,
        anchors: HashMap::new(),
        spent: 0,
    };
    let mut documents = Vec::new();
    while let Some((event, at)) = composer.next()? {
        match event {
            Event::DocumentStart(..) => composer.anchors.clear(),
            Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::MappingStart(..)
            | Event::Alias(..) => {
                let node = composer.node(event, &at)?;
                if !node.is_null() {
                    documents.push(node);
                }
            }
            _ => {}
        }
    }
    Ok(documents)
}

struct Composer<'a, E> {
    source: &'a Arc<Source>,
    rules: Rules,
    events: E,
    anchors: HashMap<usize, Node>,
    spent: usize,
}

type Parsed<'a> = Result<(Event<'a>, granit_parser::Span), granit_parser::ScanError>;

impl<'a, E: Iterator<Item = Parsed<'a>>> Composer<'a, E> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Diagnostic> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, self.span(&span)))),
            Some(Err(error)) => {
                let mark = error.marker();
                let span = Span::new(self.source, mark.line(), mark.col() + 1, 1);
                Err(Diagnostic::at(&span, error.info()))
            }
        }
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        let one_line = span.start.line() == span.end.line();
        let length = if one_line {
            span.end.col().saturating_sub(span.start.col())
        } else {
            1
        };
        Span::new(self.source, span.start.line(), span.start.col() + 1, length)
    }

    fn node(&mut self, event: Event<'a>, at: &Span) -> Result<Node, Diagnostic> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), at)?;
                let content = Content::Scalar {
                    text: text.into_owned(),
                    value,
                };
                Ok(self.remember(
                    anchor,
                    Node {
                        content,
                        span: at.clone(),
                    },
                ))
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq", at)?;
                let mut items = Vec::new();
                while let Some((event, span)) = self.next()? {
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, &span)?);
                }
                Ok(self.remember(anchor, Node::list(at, items)))
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "map", at)?;
                let map = self.mapping()?;
                Ok(self.remember(
                    anchor,
                    Node {
                        content: Content::Map(map),
                        span: at.clone(),
                    },
                ))
            }
            Event::Alias(id) => self.alias(id, at),
            _ => Err(Diagnostic::at(at, "expected a value here")),
        }
    }

    fn mapping(&mut self) -> Result<Map, Diagnostic> {
        let mut map = Map::default();
        let mut merged = Vec::new();
        while let Some((event, at)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.key(event, &at)?;
            let Some((event, span)) = self.next()? else {
                break;
            };
            let value = self.node(event, &span)?;
            if is_merge {
                merged.push(value);
            } else if let Some(first) = map.key(&key.name) {
                let message = format!("`{}` stands twice in the same mapping", key.name);
                let help = format!("the first one is on line {}", first.span.line);
                return Err(Diagnostic::at(&key.span, message).help(help));
            } else {
                map.insert(key, value);
            }
        }
        for value in merged {
            merge_into(&mut map, value)?;
        }
        Ok(map)
    }

    fn key(&mut self, event: Event<'a>, at: &Span) -> Result<Key, Diagnostic> {
        let node = self.node(event, at)?;
        let Content::Scalar { text, value } = node.content else {
            return Err(Diagnostic::at(at, "a key must be a string"));
        };
        // kubectl decodes keys too: `yes:` is "true" and `0777:` is "511".
        let name = match (self.rules, value) {
            (Rules::Kubectl, Value::Bool(value)) => value.to_string(),
            (Rules::Kubectl, Value::Number(value)) => value.to_string(),
            (_, Value::String(value)) => value,
            _ => text,
        };
        Ok(Key {
            name,
            span: at.clone(),
        })
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        at: &Span,
    ) -> Result<Value, Diagnostic> {
        let value = match tag {
            Some(tag) => {
                let name = tag.suffix_in_namespace("tag:yaml.org,2002:");
                let written = tag.original();
                let name = if written == "!" {
                    "!"
                } else {
                    name.as_deref().unwrap_or(&written)
                };
                scalar::tagged(text, name, self.rules)
            }
            None if style == ScalarStyle::Plain => scalar::resolve(text, self.rules),
            None => Ok(Value::String(text.to_owned())),
        };
        value.map_err(|error| Diagnostic::at(at, error.to_string()))
    }

    fn remember(&mut self, anchor: usize, node: Node) -> Node {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }

    fn alias(&mut self, id: usize, at: &Span) -> Result<Node, Diagnostic> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(Diagnostic::at(
                at,
                "this alias stands inside the value that it names",
            ));
        };
        self.spent += size(node);
        if self.spent > ALIAS_BUDGET {
            let message = format!("aliases expand to more than {ALIAS_BUDGET} values");
            return Err(Diagnostic::at(at, message));
        }
        Ok(node.clone())
    }
}

/// Own keys win over merged ones, and earlier merged ones over later ones
/// (<https://yaml.org/type/merge.html>).
fn merge_into(map: &mut Map, value: Node) -> Result<(), Diagnostic> {
    match value.content {
        Content::Map(other) => {
            for (key, node) in other.iter() {
                if map.get(&key.name).is_none() {
                    map.insert(key.clone(), node.clone());
                }
            }
            Ok(())
        }
        Content::List(items) => items.into_iter().try_for_each(|item| match item.content {
            Content::Map(_) => merge_into(map, item),
            _ => Err(Diagnostic::at(&item.span, "`<<` merges mappings only")),
        }),
        Content::Scalar { .. } => Err(Diagnostic::at(
            &value.span,
            "`<<` needs a mapping or a list of mappings",
        )),
    }
}

fn refuse_tag(tag: Option<&Tag>, expected: &str, at: &Span) -> Result<(), Diagnostic> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(expected) => {
            let message = format!("the tag `{}` is not understood here", tag.original());
            Err(Diagnostic::at(at, message))
        }
        _ => Ok(()),
    }
}

fn size(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 1,
        Content::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Map(map) => 1 + map.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}
