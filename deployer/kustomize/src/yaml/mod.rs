//! YAML as kustomize sees it: a tree whose nodes keep tag and style, the
//! values that a second reading of that tree gives, and the writer of the
//! final documents.
//!
//! kustomize edits trees of `yaml.v3` and prints each resource by way of
//! JSON and `yaml.v2`: keys come out sorted, comments are gone, and what a
//! scalar is depends on tag, style and text together. The three steps are
//! [`parse`], [`json::of_node`] and [`write`].

pub(crate) mod json;
pub(crate) mod node;
pub(crate) mod ops;
pub(crate) mod parse;
pub(crate) mod plain;
pub(crate) mod resolve;
pub(crate) mod value;
pub(crate) mod write;

pub(crate) use node::{Kind, Node, NodeId, Tag, Tree, style};
pub(crate) use value::Value;
