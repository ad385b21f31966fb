//! Turns a directory and a Dockerfile into an image in a registry: which files
//! belong to an artifact, which tag it gets, whether the registry has it
//! already, and a pod in a cluster that builds it.
//!
//! It does not parse Dockerfiles (`kiln-dockerfile`), speak to registries
//! (`kiln-registry`) or execute builds (`kiln-executor`, in the pod); it knows
//! nothing of manifests and deploying. It prints nothing, reads no environment
//! and keeps no global state: progress goes to [`kiln_schemas::event::Events`].
//!
//! | question | module |
//! |---|---|
//! | which files belong to an artifact | [`sources`] |
//! | where its sources end up in the image | [`placed`] |
//! | which image requires which | [`graph`] |
//! | what is filled in per iteration | [`order`] |
//! | which tag | [`tag`] |
//! | which digest has a base image now | [`base_digests`] |
//! | is it in the registry already | [`cache`] |
//! | all of these for a project | [`mod@plan`] |
//! | what does the build pod look like, and how does it run | [`cluster`] |
//! | commands around a build | [`hooks`] |

pub mod base_digests;
pub mod cache;
pub mod cluster;
pub mod graph;
pub mod hooks;
pub mod order;
pub mod placed;
pub mod plan;
pub mod sources;
pub mod tag;

pub use cluster::{BuildTree, ClusterBackend};
pub use graph::Graph;
pub use order::{Iteration, Order};
pub use plan::{Plan, plan};

#[cfg(test)]
mod testing;
