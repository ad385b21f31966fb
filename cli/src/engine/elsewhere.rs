//! This machine as the target, on systems where it cannot be one.

use kiln_deployer::apply::Prune;
use kiln_schemas::event::{Failure, ObjectName};
use kiln_schemas::image::{BuiltImage, ImageDigest};
use kiln_schemas::model::{Project, Target};
use tokio_util::sync::CancellationToken;

use super::look::{PodLine, Wish};
use super::{Choices, Engine, ImageInputs, Start, Stopped};
use crate::env::Environment;
use crate::error::{CommandError, Kind};

/// There is none.
pub enum Local {}

impl Local {
    /// An error when it is asked for.
    pub fn choose(
        _: &Environment,
        choices: &mut Choices,
        project: &Project,
        _: Option<&str>,
    ) -> Result<Option<Self>, CommandError> {
        let mut modules = project.modules.iter();
        let named = modules.any(|module| module.deploy.target == Some(Target::Local));
        if choices.local || (named && choices.kube_context.is_none()) {
            let message = "workloads run on a Linux machine only";
            return Err(
                CommandError::new(Kind::Usage, message).hint("use a cluster: --kube-context")
            );
        }
        Ok(None)
    }

    /// Never called.
    pub fn place(&self) -> String {
        match *self {}
    }

    /// Never called.
    pub fn known(&self, _: &kiln_builder::plan::Plan) -> Option<ImageDigest> {
        match *self {}
    }

    /// Never called.
    pub fn stop_following(&self) {
        match *self {}
    }

    /// Never called.
    pub async fn deployed(&self) -> Result<Vec<ObjectName>, Failure> {
        match *self {}
    }

    /// Never called.
    pub async fn pods(&self) -> Result<Vec<PodLine>, Failure> {
        match *self {}
    }

    /// Never called.
    pub async fn lines(
        &self,
        _: &Wish,
        _: &mut (dyn FnMut(&str, &str, &str) + Send),
    ) -> Result<(), Failure> {
        match *self {}
    }

    /// Never called.
    pub async fn execute(&self, _: &Wish, _: &[String]) -> Result<i32, Failure> {
        match *self {}
    }
}

/// A loop on this machine; there is none.
#[derive(Debug)]
pub enum Presence {}

impl Presence {
    /// Never called.
    pub fn ends_as_last(self) -> bool {
        match self {}
    }
}

impl Engine {
    /// No loop runs here.
    pub fn join(&self) -> Option<Presence> {
        None
    }

    pub(super) async fn build_here(
        &self,
        local: &Local,
        _: &ImageInputs,
        _: &Start,
        _: &CancellationToken,
    ) -> Result<ImageDigest, Stopped> {
        match *local {}
    }

    pub(super) async fn deploy_here(
        &self,
        local: &Local,
        _: &[BuiltImage],
        _: &CancellationToken,
    ) -> Result<(), Failure> {
        match *local {}
    }

    pub(super) async fn delete_here(&self, local: &Local, _: Prune) -> Result<(), Failure> {
        match *local {}
    }
}
