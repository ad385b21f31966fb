//! The tree. Nodes live in one arena and are named by [`NodeId`], because
//! kustomize shares nodes: a label that is put at three places is one node,
//! and a later change at one place shows at all three.

/// A node of a [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u32);

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// Nothing yet.
    #[default]
    Zero,
    Sequence,
    Mapping,
    Scalar,
}

impl Kind {
    /// The name that messages use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zero => "nothing",
            Self::Sequence => "a list",
            Self::Mapping => "a mapping",
            Self::Scalar => "a scalar",
        }
    }
}

/// Bits of [`Node::style`], with the meaning they have in `yaml.v3`.
pub(crate) mod style {
    pub(crate) const PLAIN: u8 = 0;
    pub(crate) const TAGGED: u8 = 1;
    pub(crate) const DOUBLE: u8 = 2;
    pub(crate) const SINGLE: u8 = 4;
    pub(crate) const LITERAL: u8 = 8;
    pub(crate) const FOLDED: u8 = 16;
    pub(crate) const FLOW: u8 = 32;
    /// Any of the styles that make a scalar a string.
    pub(crate) const QUOTED: u8 = DOUBLE | SINGLE | LITERAL | FOLDED;
}

/// The tag of a node, short form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Tag {
    /// None is set; the text decides.
    #[default]
    Empty,
    Null,
    Bool,
    Str,
    Int,
    Float,
    Timestamp,
    Seq,
    Map,
    Binary,
    Merge,
    Other(Box<str>),
}

impl Tag {
    /// Reads a tag in its short (`!!str`) or long form.
    pub(crate) fn read(text: &str) -> Self {
        let core = text
            .strip_prefix("tag:yaml.org,2002:")
            .or_else(|| text.strip_prefix("!!"));
        match core {
            Some("null") => Self::Null,
            Some("bool") => Self::Bool,
            Some("str") => Self::Str,
            Some("int") => Self::Int,
            Some("float") => Self::Float,
            Some("timestamp") => Self::Timestamp,
            Some("seq") => Self::Seq,
            Some("map") => Self::Map,
            Some("binary") => Self::Binary,
            Some("merge") => Self::Merge,
            _ => Self::Other(text.into()),
        }
    }

    /// The short form.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Empty => "",
            Self::Null => "!!null",
            Self::Bool => "!!bool",
            Self::Str => "!!str",
            Self::Int => "!!int",
            Self::Float => "!!float",
            Self::Timestamp => "!!timestamp",
            Self::Seq => "!!seq",
            Self::Map => "!!map",
            Self::Binary => "!!binary",
            Self::Merge => "!!merge",
            Self::Other(name) => name,
        }
    }
}

/// One node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) style: u8,
    pub(crate) tag: Tag,
    /// The text of a scalar.
    pub(crate) value: String,
    /// Items of a sequence; keys and values of a mapping, in turn.
    pub(crate) content: Vec<NodeId>,
}

impl Node {
    /// A scalar without tag: the text decides what it is.
    pub(crate) fn scalar(value: impl Into<String>) -> Self {
        Self {
            kind: Kind::Scalar,
            value: value.into(),
            ..Self::default()
        }
    }

    /// A scalar that is a string, whatever its text is.
    pub(crate) fn string(value: impl Into<String>) -> Self {
        let value = value.into();
        Self {
            kind: Kind::Scalar,
            tag: Tag::Str,
            style: if value.contains('\n') {
                style::LITERAL
            } else {
                style::PLAIN
            },
            value,
            ..Self::default()
        }
    }

    /// An empty node of a kind.
    pub(crate) fn empty(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }
}

/// The arena.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl std::ops::Index<NodeId> for Tree {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

impl std::ops::IndexMut<NodeId> for Tree {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }
}

impl Tree {
    /// Adds a node.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    /// A copy that shares nothing with the original.
    pub(crate) fn copy(&mut self, id: NodeId) -> NodeId {
        let mut node = self[id].clone();
        for child in &mut node.content {
            *child = self.copy(*child);
        }
        self.add(node)
    }

    /// How many nodes a subtree has, children counted as often as they occur.
    pub(crate) fn size(&self, id: NodeId) -> usize {
        1 + self[id]
            .content
            .iter()
            .map(|child| self.size(*child))
            .sum::<usize>()
    }

    /// Keys and values of a mapping; nothing for other kinds.
    pub(crate) fn fields(&self, id: NodeId) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let node = &self[id];
        let content: &[NodeId] = if node.kind == Kind::Mapping {
            &node.content
        } else {
            &[]
        };
        content.chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    /// The value of the first key with this text.
    pub(crate) fn get(&self, id: NodeId, key: &str) -> Option<NodeId> {
        self.fields(id)
            .find(|(name, _)| self[*name].value == key)
            .map(|(_, value)| value)
    }

    /// Whether a node is tagged as null.
    pub(crate) fn is_null(&self, id: NodeId) -> bool {
        self[id].tag == Tag::Null
    }

    /// Whether a node is null, an empty mapping, an empty sequence or nothing.
    pub(crate) fn is_null_or_empty(&self, id: NodeId) -> bool {
        let node = &self[id];
        match node.kind {
            _ if node.tag == Tag::Null => true,
            Kind::Mapping | Kind::Sequence => node.content.is_empty(),
            Kind::Zero => node.value.is_empty() && node.content.is_empty(),
            Kind::Scalar => false,
        }
    }

    /// Whether a scalar is a string or has no tag.
    pub(crate) fn is_string(&self, id: NodeId) -> bool {
        let node = &self[id];
        node.kind == Kind::Scalar && matches!(node.tag, Tag::Str | Tag::Empty)
    }

    /// The text of a scalar that is not null; empty for everything else.
    pub(crate) fn text(&self, id: NodeId) -> &str {
        if self.is_null(id) {
            ""
        } else {
            &self[id].value
        }
    }
}
