//! What a name after `FROM` or in `--from` means: a stage, an image, or a context that stands for
//! either.

use kiln_dockerfile::platform::Platform;

use super::error::PlanError;
use super::stage::{At, Beginning, Planner};
use super::{Base, From, ImageKey, NamedContext};
use crate::image::ImageConfig;

impl<'a> Planner<'a> {
    /// What a stage begins with: an earlier stage of that name, `scratch`, or an image.
    pub(super) fn base(&self, index: usize, platform: &Platform) -> Result<Beginning, PlanError> {
        let stages = &self.input.dockerfile.stages;
        let stage = &stages[index];
        let key = |name: &str| ImageKey {
            name: name.to_owned(),
            platform: platform.to_string(),
        };
        if let Some(name) = &stage.name
            && let Some((known, NamedContext::Image(image))) = self.named(name)
        {
            return Ok(Beginning {
                base: Base::Image(key(image)),
                base_name: known.clone(),
                is_replaced: true,
            });
        }
        let at = At {
            position: stage.position,
            source: &stage.source,
            keyword: "FROM",
        };
        let name = at.expand(self.globals.expand(&stage.base))?;
        if name.is_empty() {
            return Err(PlanError::EmptyBase {
                position: stage.position,
                word: stage.base.clone(),
            });
        }
        let found = |base, base_name| Beginning {
            base,
            base_name,
            is_replaced: false,
        };
        match self.named(&name) {
            Some((_, NamedContext::Image(image))) => {
                return Ok(found(Base::Image(key(image)), name));
            }
            Some((known, NamedContext::Directory(_))) => {
                let what = format!("FROM {known}, a directory of --build-context,");
                let instead = "write FROM scratch and COPY --from=<name> / /";
                let at = At {
                    position: stage.position,
                    source: &stage.source,
                    keyword: "FROM",
                };
                return Err(at.unsupported(what, instead));
            }
            None => {}
        }
        let earlier = stages[..index].iter().rposition(|other| {
            other
                .name
                .as_ref()
                .is_some_and(|known| known.eq_ignore_ascii_case(&name))
        });
        let base = match earlier {
            Some(other) => Base::Stage(other),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image(key(&name)),
        };
        Ok(found(base, name))
    }

    /// `--build-context` of this name; it goes before stages and images.
    fn named(&self, name: &str) -> Option<(&'a String, &'a NamedContext)> {
        let name = name.to_lowercase();
        let name = name.strip_suffix(":latest").unwrap_or(&name);
        self.input.contexts.get_key_value(name)
    }

    /// The configuration of an image, or a note that it is needed.
    pub(super) fn image(&mut self, key: &ImageKey) -> Option<ImageConfig> {
        let found = self.images.get(key).cloned();
        if found.is_none() && !self.missing.contains(key) {
            self.missing.push(key.clone());
        }
        found
    }

    /// `--from`: a stage by name, a stage by number, or an image.
    pub(super) fn from(
        &mut self,
        from: &str,
        at: At<'_>,
        platform: &Platform,
    ) -> Result<From, PlanError> {
        match self.named(from) {
            Some((name, NamedContext::Directory(_))) => return Ok(From::Named(name.clone())),
            Some((_, NamedContext::Image(image))) => {
                let key = ImageKey {
                    name: image.clone(),
                    platform: platform.to_string(),
                };
                self.image(&key);
                return Ok(From::Image(key));
            }
            None => {}
        }
        let stages = &self.input.dockerfile.stages;
        let by_name = stages.iter().rposition(|stage| {
            stage
                .name
                .as_ref()
                .is_some_and(|name| name.eq_ignore_ascii_case(from))
        });
        let index = match (by_name, from.parse::<usize>()) {
            (Some(index), _) => Some(index),
            (None, Ok(index)) if index < stages.len() => Some(index),
            (None, Ok(_)) => {
                let (from, stages) = (from.to_owned(), stages.len());
                return Err(PlanError::NoSuchStage {
                    position: at.position,
                    from,
                    stages,
                });
            }
            (None, Err(_)) => None,
        };
        // A stage that is replaced is so by its number too.
        let name = index.and_then(|index| stages[index].name.as_deref());
        if let Some(name) = name.filter(|name| from != *name && self.named(name).is_some()) {
            return self.from(name, at, platform);
        }
        if let Some(index) = index {
            if self.open.contains(&index) {
                let (position, name) = (at.position, from.to_owned());
                return Err(PlanError::Cycle { position, name });
            }
            self.needs.push(index);
            return Ok(From::Stage(index));
        }
        if from == "scratch" {
            return Ok(From::Scratch);
        }
        let key = ImageKey {
            name: from.to_owned(),
            platform: platform.to_string(),
        };
        self.image(&key);
        Ok(From::Image(key))
    }

    /// [`Planner::from`] of a copy: only stages further up can be named (BuildKit).
    pub(super) fn earlier(
        &mut self,
        name: &str,
        at: At<'_>,
        platform: &Platform,
    ) -> Result<From, PlanError> {
        let from = self.from(name, at, platform)?;
        match (&from, self.open.last()) {
            (From::Stage(index), Some(current)) if index > current => Err(PlanError::LaterStage {
                position: at.position,
                name: name.to_owned(),
            }),
            _ => Ok(from),
        }
    }
}
