//! Which image is built when: required ones first, independent ones at once,
//! and one failure holds back only what depends on it.
//!
//! [`Graph`] and [`Schedule`] are pure; [`build_all`] drives any asynchronous
//! build through them.

use std::collections::BTreeMap;
use std::future::Future;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

/// Requirements that no order satisfies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// An artifact requires one that does not exist.
    #[error("{image} requires {required}, which is not an artifact of this project")]
    Unknown {
        /// Who requires.
        image: String,
        /// What.
        required: String,
    },
    /// Artifacts require each other in a circle.
    #[error("these artifacts require each other in a circle: {}", path.join(" -> "))]
    Cycle {
        /// The circle; first and last are the same.
        path: Vec<String>,
    },
}

/// Artifacts and what they require, known to be free of circles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// In an order in which every image stands after what it requires.
    order: Vec<String>,
    requires: BTreeMap<String, Vec<String>>,
}

impl Graph {
    /// Checks and orders `(image, required images)` pairs. Images that do not
    /// depend on each other keep their given order.
    pub fn new(
        artifacts: impl IntoIterator<Item = (String, Vec<String>)>,
    ) -> Result<Self, GraphError> {
        let mut names = Vec::new();
        let mut requires = BTreeMap::new();
        for (image, required) in artifacts {
            names.push(image.clone());
            requires.insert(image, required);
        }
        for (image, required) in &requires {
            if let Some(missing) = required.iter().find(|name| !requires.contains_key(*name)) {
                return Err(GraphError::Unknown {
                    image: image.clone(),
                    required: missing.clone(),
                });
            }
        }
        let mut graph = Self {
            order: Vec::new(),
            requires,
        };
        let mut path = Vec::new();
        for name in &names {
            graph.visit(name, &mut path)?;
        }
        Ok(graph)
    }

    fn visit(&mut self, name: &str, path: &mut Vec<String>) -> Result<(), GraphError> {
        if self.order.iter().any(|done| done == name) {
            return Ok(());
        }
        if let Some(start) = path.iter().position(|step| step == name) {
            let mut circle = path.split_off(start);
            circle.push(name.to_owned());
            return Err(GraphError::Cycle { path: circle });
        }
        path.push(name.to_owned());
        for required in self.requires.get(name).cloned().unwrap_or_default() {
            self.visit(&required, path)?;
        }
        path.pop();
        self.order.push(name.to_owned());
        Ok(())
    }

    /// Every image, each after what it requires.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// What an image requires directly.
    pub fn requires(&self, image: &str) -> &[String] {
        self.requires.get(image).map_or(&[], Vec::as_slice)
    }

    /// The given images and everything that requires them, directly or not, in
    /// build order: what has to be looked at again when those changed.
    pub fn affected_by(&self, changed: &[String]) -> Vec<String> {
        let mut affected: Vec<String> = Vec::new();
        for image in &self.order {
            let touched = changed.contains(image)
                || self
                    .requires(image)
                    .iter()
                    .any(|required| affected.contains(required));
            if touched {
                affected.push(image.clone());
            }
        }
        affected
    }
}

/// How one image of [`build_all`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T, E> {
    /// It is there.
    Done(T),
    /// Its own build failed.
    Failed(E),
    /// It was not started, because this image, which it requires, did not get
    /// there.
    Blocked {
        /// The required image that failed, was blocked or was cancelled.
        by: String,
    },
    /// It was stopped, or not started any more, because of cancellation.
    Cancelled,
}

impl<T, E> Outcome<T, E> {
    /// The result of a build that got there.
    pub fn done(&self) -> Option<&T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Failed(_) | Self::Blocked { .. } | Self::Cancelled => None,
        }
    }
}

/// What is waiting, running and over.
#[derive(Debug)]
struct Schedule<'a, T, E> {
    graph: &'a Graph,
    waiting: Vec<String>,
    over: BTreeMap<String, Outcome<T, E>>,
}

impl<'a, T, E> Schedule<'a, T, E> {
    fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            waiting: graph.order.clone(),
            over: BTreeMap::new(),
        }
    }

    /// Takes the next image whose requirements are all there. Images whose
    /// requirements failed are settled as blocked on the way.
    fn next(&mut self) -> Option<String> {
        let mut index = 0;
        while index < self.waiting.len() {
            match self.state(&self.waiting[index]) {
                Wait::Ready => return Some(self.waiting.remove(index)),
                Wait::Running => index += 1,
                Wait::Blocked(by) => {
                    // Whatever requires this one stands later in the order, so
                    // the same pass settles it too.
                    let image = self.waiting.remove(index);
                    self.over.insert(image, Outcome::Blocked { by });
                }
            }
        }
        None
    }

    fn state(&self, image: &str) -> Wait {
        let mut state = Wait::Ready;
        for required in self.graph.requires(image) {
            match self.over.get(required) {
                Some(Outcome::Done(_)) => {}
                Some(_) => return Wait::Blocked(required.clone()),
                None => state = Wait::Running,
            }
        }
        state
    }

    fn cancel_waiting(&mut self) {
        for image in self.waiting.drain(..) {
            self.over.insert(image, Outcome::Cancelled);
        }
    }
}

enum Wait {
    Ready,
    Running,
    Blocked(String),
}

/// Builds every image of the graph, at most `concurrency` at once (0 means no
/// limit), each after what it requires.
///
/// `build` gets the image's name and the results of what it requires; it ends
/// with `None` when it was cancelled. A failure does not stop the others. After
/// cancellation nothing new is started, and running builds are waited for: they
/// clean up after themselves.
pub async fn build_all<T, E, F, Run>(
    graph: &Graph,
    concurrency: usize,
    cancel: &CancellationToken,
    build: F,
) -> BTreeMap<String, Outcome<T, E>>
where
    T: Clone,
    F: Fn(String, BTreeMap<String, T>) -> Run,
    Run: Future<Output = Option<Result<T, E>>>,
{
    let limit = if concurrency == 0 {
        usize::MAX
    } else {
        concurrency
    };
    let mut schedule: Schedule<'_, T, E> = Schedule::new(graph);
    let mut running = FuturesUnordered::new();
    loop {
        if cancel.is_cancelled() {
            schedule.cancel_waiting();
        }
        while running.len() < limit {
            let Some(image) = schedule.next() else { break };
            let required = graph
                .requires(&image)
                .iter()
                .filter_map(|name| Some((name.clone(), schedule.over.get(name)?.done()?.clone())))
                .collect();
            let work = build(image.clone(), required);
            running.push(async move { (image, work.await) });
        }
        let Some((image, result)) = running.next().await else {
            break;
        };
        let outcome = match result {
            Some(Ok(value)) => Outcome::Done(value),
            Some(Err(error)) => Outcome::Failed(error),
            None => Outcome::Cancelled,
        };
        schedule.over.insert(image, outcome);
    }
    schedule.over
}

#[cfg(test)]
mod tests;
