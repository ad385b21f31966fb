//! Which stages a target needs.

use std::collections::BTreeMap;

use crate::expand::ExpandError;
use crate::instruction::{Dockerfile, Instruction};
use crate::position::Position;
use crate::scope::Globals;
use crate::suggest;

/// What a `FROM`, `COPY --from` or `RUN --mount=from=` names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A stage of this file, by its 0-based place.
    Stage(usize),
    /// Anything else: an image, or a named context of the build.
    External(String),
}

/// Why the stages of a file do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A word of a `FROM` cannot be expanded.
    #[error("{position}: cannot expand `{word}`")]
    Expand {
        /// Where `FROM` stands.
        position: Position,
        /// The word as written.
        word: String,
        /// Why.
        #[source]
        source: ExpandError,
    },
    /// The base is empty after its variables were expanded.
    #[error(
        "{position}: the base image `{word}` is empty; give its ARG a default before FROM, or pass --build-arg"
    )]
    EmptyBase {
        /// Where `FROM` stands.
        position: Position,
        /// The word as written.
        word: String,
    },
    /// `--from=N` where there is no stage N.
    #[error("{position}: there is no stage {index}; the file has {count}, counted from 0")]
    NoSuchIndex {
        /// Where the instruction stands.
        position: Position,
        /// The index.
        index: usize,
        /// How many stages there are.
        count: usize,
    },
    /// The target is no stage.
    #[error("there is no stage `{target}`; the stages are {known}")]
    NoSuchTarget {
        /// The requested target.
        target: String,
        /// The names, or the indices of those without one.
        known: String,
        /// A name that is close.
        nearest: Option<String>,
    },
    /// A stage reads from itself or from a later one.
    #[error(
        "{position}: the stage `{from}` is not built before this; move it above the stage that reads from it"
    )]
    NotYetBuilt {
        /// Where the instruction stands.
        position: Position,
        /// The name or index of the stage that is read from.
        from: String,
    },
}

/// The stages of a file and what each needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageGraph {
    bases: Vec<Reference>,
    needs: Vec<Vec<Reference>>,
    positions: Vec<Vec<Position>>,
    names: BTreeMap<String, usize>,
    labels: Vec<String>,
}

impl StageGraph {
    /// Resolves every `FROM` (in the global scope), `COPY --from` and `RUN --mount=from=`, those
    /// inside an `ONBUILD` of a stage's base stage included.
    ///
    /// Names compare without case. A `FROM` sees the stages before it, a `--from` sees all (a
    /// name that two stages have is the later one).
    pub fn new(dockerfile: &Dockerfile, globals: &Globals) -> Result<Self, GraphError> {
        let mut graph = Self {
            bases: Vec::new(),
            needs: Vec::new(),
            positions: Vec::new(),
            names: BTreeMap::new(),
            labels: Vec::new(),
        };
        for stage in &dockerfile.stages {
            let base = globals
                .expand(&stage.base)
                .map_err(|source| GraphError::Expand {
                    position: stage.position,
                    word: stage.base.clone(),
                    source,
                })?;
            if base.is_empty() {
                let word = stage.base.clone();
                return Err(GraphError::EmptyBase {
                    position: stage.position,
                    word,
                });
            }
            graph
                .bases
                .push(match graph.names.get(&base.to_lowercase()) {
                    Some(index) => Reference::Stage(*index),
                    None => Reference::External(base),
                });
            if let Some(name) = &stage.name {
                graph.names.insert(name.clone(), stage.index);
            }
            graph.labels.push(
                stage
                    .name
                    .clone()
                    .unwrap_or_else(|| stage.index.to_string()),
            );
        }
        for stage in &dockerfile.stages {
            let mut needs = vec![(graph.bases[stage.index].clone(), stage.position)];
            for located in &stage.instructions {
                graph.collect(&located.value, located.position, &mut needs)?;
            }
            if let Reference::Stage(base) = graph.bases[stage.index] {
                for located in &dockerfile.stages[base].instructions {
                    if let Instruction::Onbuild(onbuild) = &located.value {
                        graph.collect(&onbuild.instruction, located.position, &mut needs)?;
                    }
                }
            }
            let (needs, positions) = needs.into_iter().unzip();
            graph.needs.push(needs);
            graph.positions.push(positions);
        }
        Ok(graph)
    }

    fn collect(
        &self,
        instruction: &Instruction,
        position: Position,
        needs: &mut Vec<(Reference, Position)>,
    ) -> Result<(), GraphError> {
        for from in froms(instruction) {
            let reference = self.resolve(from, position)?;
            if !needs.iter().any(|(known, _)| *known == reference) {
                needs.push((reference, position));
            }
        }
        Ok(())
    }

    /// What a `--from` at `position` names. Digits are the index of a stage.
    pub fn resolve(&self, from: &str, position: Position) -> Result<Reference, GraphError> {
        if let Some(index) = self.names.get(&from.to_lowercase()) {
            return Ok(Reference::Stage(*index));
        }
        match from.parse::<usize>() {
            Ok(index) if index < self.bases.len() => Ok(Reference::Stage(index)),
            Ok(index) => Err(GraphError::NoSuchIndex {
                position,
                index,
                count: self.bases.len(),
            }),
            Err(_) => Ok(Reference::External(from.to_owned())),
        }
    }

    /// The stage that `--target` names, by name or index; without one, the last.
    pub fn target(&self, target: Option<&str>) -> Result<usize, GraphError> {
        let Some(target) = target.filter(|target| !target.is_empty()) else {
            return Ok(self.bases.len() - 1);
        };
        let by_name = self.names.get(&target.to_lowercase()).copied();
        let by_index = || {
            target
                .parse()
                .ok()
                .filter(|index| *index < self.bases.len())
        };
        by_name
            .or_else(by_index)
            .ok_or_else(|| GraphError::NoSuchTarget {
                target: target.to_owned(),
                known: self.labels.join(", "),
                nearest: suggest::nearest(target, self.names.keys().map(String::as_str)),
            })
    }

    /// What the stage is built from.
    pub fn base(&self, stage: usize) -> &Reference {
        &self.bases[stage]
    }

    /// Everything that the stage reads from: its base first, then the others in the order of
    /// their first use.
    pub fn needs(&self, stage: usize) -> &[Reference] {
        &self.needs[stage]
    }

    /// The stages that building `target` takes, itself included, each after those it needs.
    ///
    /// # Errors
    ///
    /// [`GraphError::NotYetBuilt`] when one of them reads from itself or a later stage, which
    /// BuildKit refuses as well; stages that the target does not need are not looked at.
    pub fn needed(&self, target: usize) -> Result<Vec<usize>, GraphError> {
        let mut order = Vec::new();
        // A stage is entered once and emitted when everything below it was.
        let mut stack = vec![(target, false)];
        let mut entered = vec![false; self.bases.len()];
        while let Some((stage, done)) = stack.pop() {
            if done {
                order.push(stage);
            } else if !std::mem::replace(&mut entered[stage], true) {
                stack.push((stage, true));
                let below = self.stages_below(stage)?;
                stack.extend(below.into_iter().rev().map(|below| (below, false)));
            }
        }
        Ok(order)
    }

    fn stages_below(&self, stage: usize) -> Result<Vec<usize>, GraphError> {
        let mut below = Vec::new();
        for (reference, position) in self.needs[stage].iter().zip(&self.positions[stage]) {
            match reference {
                Reference::Stage(index) if *index < stage => below.push(*index),
                Reference::Stage(index) => {
                    let from = self.labels[*index].clone();
                    return Err(GraphError::NotYetBuilt {
                        position: *position,
                        from,
                    });
                }
                Reference::External(_) => {}
            }
        }
        Ok(below)
    }
}

/// The `--from` values of an instruction.
fn froms(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| mount.from.as_deref())
            .collect(),
        _ => Vec::new(),
    }
}
