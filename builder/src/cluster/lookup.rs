//! Asks for images from inside of the cluster, where this host does not reach their registry: a pod
//! with the registry settings of a build runs `executor lookup`.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_schemas::image::ImageDigest;
use tokio_util::sync::CancellationToken;

use super::cleanup::Cleanup;
use super::error::BuildError;
use super::run::{Running, Work};
use super::{BuildTree, ClusterBackend};
use crate::order::Order;

/// What is known about an image now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    Image {
        /// Of its manifest or index.
        digest: ImageDigest,
        /// Its `ONBUILD` triggers; absent where its configuration could not be read.
        onbuild: Option<Vec<String>>,
    },
    /// There is no such image.
    Absent,
    /// The registry gave no answer inside of the cluster either; the executor's words.
    Unanswered(String),
}

impl ClusterBackend {
    /// Asks for images with the settings, secrets and mounts of `like`.
    ///
    /// Always runs Kiln's own executor: no other can be asked. A name without an answer is left
    /// out.
    ///
    /// # Errors
    /// As for a build: the pod could not start, or died.
    pub async fn look_up(
        &self,
        like: &Order,
        names: &[String],
        cancel: &CancellationToken,
    ) -> Result<BTreeMap<String, Answer>, BuildError> {
        let init_image = like.artifact.executor.init_image.as_deref();
        let executor = cancel
            .run_until_cancelled(self.own_executor(like, init_image))
            .await
            .ok_or(BuildError::Cancelled)??;
        let tree = BuildTree::new(Path::new("/"), [], Path::new("/Dockerfile"));
        let work = Work {
            order: like,
            tree: &tree,
            look_up: names,
        };
        let mut cleanup = Cleanup::new(self);
        let pod = self.create(work, &executor, &mut cleanup).await?;
        let mut running = Running::new(self, work, &executor, &pod);
        let result = running.follow(pod, cancel).await;
        running.stop().await;
        cleanup.now().await;
        result?;
        Ok(running.answers())
    }
}
