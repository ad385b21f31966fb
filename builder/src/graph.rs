//! Which image requires which, and an order in which required ones come first.

use std::collections::BTreeMap;

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

#[cfg(test)]
mod tests;
