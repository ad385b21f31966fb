//! The changes that kustomize makes to resources, one file for each kind.

pub(crate) mod affix;
pub(crate) mod fieldspec;
pub(crate) mod image;
pub(crate) mod json_patch;
pub(crate) mod labels;
pub(crate) mod namespace;
pub(crate) mod path_match;
pub(crate) mod references;
pub(crate) mod replacement;
pub(crate) mod replicas;
pub(crate) mod strategic;
mod strategic_list;
pub(crate) mod value_add;
pub(crate) mod variables;
