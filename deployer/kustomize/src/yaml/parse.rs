//! Text to trees. Aliases are replaced by copies and merge keys are merged,
//! as kustomize does right after reading.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle, Tag as SourceTag};

use super::node::{Kind, Node, NodeId, Tag, Tree, style};
use super::resolve::{Rules, resolve};

/// How many nodes aliases may add to one text: far beyond any file that a
/// person wrote, far below what a "billion laughs" needs.
const ALIAS_BUDGET: usize = 1_000_000;

/// How deep values may be nested; `yaml.v3` stops at 10,000.
const DEPTH: usize = 256;

/// A text that is not YAML, or not the YAML that is understood here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// Counted from one.
    pub line: usize,
    /// Counted from one.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// The first document of a text; [`None`] if it is empty or null.
pub(crate) fn document(tree: &mut Tree, text: &str) -> Result<Option<NodeId>, SyntaxError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut composer = Composer {
        events: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        spent: 0,
        depth: 0,
        tree,
    };
    while let Some((event, mark)) = composer.next()? {
        match event {
            Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::MappingStart(..)
            | Event::Alias(..) => {
                let root = composer.node(event, mark)?;
                composer.rest()?;
                return Ok((!composer.tree.is_null(root)).then_some(root));
            }
            Event::DocumentEnd => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

#[derive(Clone, Copy)]
struct Mark {
    line: usize,
    column: usize,
    /// Whether nothing stands there.
    empty: bool,
}

impl Mark {
    fn error(self, message: impl Into<String>) -> SyntaxError {
        SyntaxError {
            line: self.line,
            column: self.column,
            message: message.into(),
        }
    }
}

struct Composer<'t, E> {
    events: E,
    anchors: HashMap<usize, NodeId>,
    spent: usize,
    depth: usize,
    tree: &'t mut Tree,
}

type Parsed<'a> = Result<(Event<'a>, granit_parser::Span), granit_parser::ScanError>;

impl<'a, E: Iterator<Item = Parsed<'a>>> Composer<'_, E> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Mark)>, SyntaxError> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((
                event,
                Mark {
                    line: span.start.line(),
                    column: span.start.col() + 1,
                    empty: span.start.index() == span.end.index(),
                },
            ))),
            Some(Err(error)) => {
                let marker = error.marker();
                let mark = Mark {
                    line: marker.line(),
                    column: marker.col() + 1,
                    empty: true,
                };
                Err(mark.error(error.info()))
            }
        }
    }

    /// Reads the end of the document, where a stray text shows.
    fn rest(&mut self) -> Result<(), SyntaxError> {
        while let Some((event, _)) = self.next()? {
            if event == Event::DocumentEnd {
                break;
            }
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, at: Mark) -> Result<NodeId, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(at.error(format!("values are nested deeper than {DEPTH} levels")));
        }
        let node = match event {
            Event::Scalar(text, written, anchor, tag) => {
                // The parser gives `~` where nothing stands.
                let text = if at.empty {
                    String::new()
                } else {
                    text.into_owned()
                };
                let node = scalar(text, written, tag.as_deref());
                let id = self.tree.add(node);
                self.remember(anchor, id);
                id
            }
            Event::SequenceStart(written, anchor, tag) => {
                let mut content = Vec::new();
                while let Some((event, mark)) = self.next()? {
                    if event == Event::SequenceEnd {
                        break;
                    }
                    content.push(self.node(event, mark)?);
                }
                let id = self.collection(Kind::Sequence, written, tag.as_deref(), content);
                self.remember(anchor, id);
                id
            }
            Event::MappingStart(written, anchor, tag) => {
                let content = self.mapping()?;
                let id = self.collection(Kind::Mapping, written, tag.as_deref(), content);
                self.merge_keys(id, at)?;
                self.remember(anchor, id);
                id
            }
            Event::Alias(anchor) => self.alias(anchor, at)?,
            _ => return Err(at.error("expected a value here")),
        };
        self.depth -= 1;
        Ok(node)
    }

    fn collection(
        &mut self,
        kind: Kind,
        written: StructureStyle,
        tag: Option<&SourceTag>,
        content: Vec<NodeId>,
    ) -> NodeId {
        let mut style = if written == StructureStyle::Flow {
            style::FLOW
        } else {
            style::PLAIN
        };
        let tag = match tag {
            Some(tag) => {
                style |= style::TAGGED;
                read_tag(tag)
            }
            None if kind == Kind::Sequence => Tag::Seq,
            None => Tag::Map,
        };
        self.tree.add(Node {
            kind,
            style,
            tag,
            content,
            value: String::new(),
        })
    }

    fn mapping(&mut self) -> Result<Vec<NodeId>, SyntaxError> {
        let mut content = Vec::new();
        while let Some((event, mark)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            content.push(self.node(event, mark)?);
            let Some((event, mark)) = self.next()? else {
                return Err(mark.error("a key has no value"));
            };
            content.push(self.node(event, mark)?);
        }
        Ok(content)
    }

    fn remember(&mut self, anchor: usize, node: NodeId) {
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> Result<NodeId, SyntaxError> {
        let Some(target) = self.anchors.get(&anchor).copied() else {
            return Err(at.error("this alias stands inside the value that it names"));
        };
        self.spent += self.tree.size(target);
        if self.spent > ALIAS_BUDGET {
            return Err(at.error(format!("aliases expand to more than {ALIAS_BUDGET} values")));
        }
        Ok(self.tree.copy(target))
    }

    /// Own keys win over merged ones, and earlier merged ones over later ones
    /// (<https://yaml.org/type/merge.html>).
    fn merge_keys(&mut self, id: NodeId, at: Mark) -> Result<(), SyntaxError> {
        let is_merge = |tree: &Tree, key: NodeId| tree[key].tag == Tag::Merge;
        let pairs: Vec<_> = self.tree.fields(id).collect();
        let mut merges = pairs.iter().filter(|(key, _)| is_merge(self.tree, *key));
        let Some((_, merged)) = merges.next().copied() else {
            return Ok(());
        };
        if merges.next().is_some() {
            return Err(at.error("`<<` stands twice in the same mapping"));
        }
        let sources = match self.tree[merged].kind {
            Kind::Mapping => vec![merged],
            Kind::Sequence => self.tree[merged].content.clone(),
            _ => return Err(at.error("`<<` needs a mapping or a list of mappings")),
        };
        let mut content: Vec<NodeId> = pairs
            .iter()
            .filter(|(key, _)| !is_merge(self.tree, *key))
            .flat_map(|(key, value)| [*key, *value])
            .collect();
        for source in sources {
            if self.tree[source].kind != Kind::Mapping {
                return Err(at.error("`<<` merges mappings only"));
            }
            for (key, value) in self.tree.fields(source).collect::<Vec<_>>() {
                let name = &self.tree[key].value;
                let known = content
                    .chunks_exact(2)
                    .any(|pair| self.tree[pair[0]].value == *name);
                if !known {
                    content.extend([key, value]);
                }
            }
        }
        self.tree[id].content = content;
        Ok(())
    }
}

fn scalar(value: String, written: ScalarStyle, tag: Option<&SourceTag>) -> Node {
    let mut style = match written {
        ScalarStyle::Plain => style::PLAIN,
        ScalarStyle::SingleQuoted => style::SINGLE,
        ScalarStyle::DoubleQuoted => style::DOUBLE,
        ScalarStyle::Literal => style::LITERAL,
        ScalarStyle::Folded => style::FOLDED,
    };
    let tag = match tag.map(read_tag) {
        Some(tag) if tag.name() != "!" => {
            style |= style::TAGGED;
            tag
        }
        Some(_) => Tag::Str,
        None if style != style::PLAIN => Tag::Str,
        None => resolve(&value, Rules::V3).tag(),
    };
    Node {
        kind: Kind::Scalar,
        style,
        tag,
        value,
        content: Vec::new(),
    }
}

fn read_tag(tag: &SourceTag) -> Tag {
    let written = tag.original();
    if written == "!" {
        return Tag::Other("!".into());
    }
    match tag.core_suffix() {
        Some(name) => Tag::read(&format!("!!{name}")),
        None => Tag::read(&written),
    }
}
