//! The part of a document that a profile can change too: build, manifests,
//! deploy, forwards.

use super::{build, deploy};
use crate::environment::Environment;
use crate::fields::Fields;
use crate::model::{Build, Deploy, Forward, Manifests, ResourceSelector};

/// What it says.
pub(super) struct Pipeline {
    pub(super) build: Build,
    pub(super) manifests: Manifests,
    pub(super) deploy: Deploy,
    pub(super) forward: Vec<Forward>,
    pub(super) resource_selector: ResourceSelector,
}

/// Reads it; findings go to the fields' report.
pub(super) fn read(fields: &Fields<'_>, environment: &Environment) -> Pipeline {
    fields.refuse(
        "test",
        "run the tests in a step of their own after `kiln build`",
    );
    fields.refuse(
        "verify",
        "run the check in a step of its own after `kiln run`, or as a Job among the manifests",
    );
    fields.refuse(
        "customActions",
        "run the command by itself, or as a hook of build or deploy",
    );
    Pipeline {
        build: build::read(fields.section("build"), environment),
        manifests: deploy::manifests(fields.section("manifests"), environment),
        deploy: deploy::deploy(fields.section("deploy"), environment),
        forward: fields
            .sections("portForward")
            .filter_map(|f| deploy::forward(&f))
            .collect(),
        resource_selector: deploy::resource_selector(fields.section("resourceSelector")),
    }
}
