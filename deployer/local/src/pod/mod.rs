//! What a pod does next. Pure: [`Pod::step`] takes what happened and answers with what to do.
//!
//! The order of init containers, sidecars, hooks and probes is the kubelet's (Kubernetes
//! documentation, "Pod Lifecycle", "Init Containers", "Sidecar Containers").

mod backoff;
mod probe;
mod spec;
mod state;
mod stop;

pub use probe::{ProbeKind, Times};
pub use spec::{ContainerRole, ContainerRules, RestartPolicy, Rules};
pub use state::{Action, ContainerView, Event, Exit, Phase, Pod, Status};

#[cfg(test)]
mod tests;
