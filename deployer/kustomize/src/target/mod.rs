//! One kustomization and what it brings: resources, generated ones,
//! components, then its changes.

mod patch;
mod plugin;
mod transform;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{self, TransformerConfig};
use crate::filter::variables::{self, VarValue};
use crate::generate::What;
use crate::kustomization::{Kustomization, Var};
use crate::load::{LoadError, Loader};
use crate::origin::{self, Origin};
use crate::resmap::ResMap;
use crate::resource;
use crate::schema::CustomSchema;
use crate::work::Work;
use crate::yaml::{Tree, Value, json, ops, parse};
use crate::{Error, documents};

const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Resources with the rules that apply to them.
#[derive(Debug, Default)]
pub(crate) struct Accumulator {
    pub(crate) map: ResMap,
    config: Arc<TransformerConfig>,
    vars: BTreeMap<String, Var>,
}

impl Accumulator {
    fn merge_config(&mut self, config: &Arc<TransformerConfig>) -> Result<(), Error> {
        self.config = config::merge(&self.config, config)?;
        Ok(())
    }

    fn merge(&mut self, work: &Work, other: Self) -> Result<(), Error> {
        self.map.append_all(work, other.map.list)?;
        self.merge_config(&other.config)?;
        other
            .vars
            .into_values()
            .try_for_each(|var| self.add_var(var))
    }

    fn add_var(&mut self, var: Var) -> Result<(), Error> {
        if self.vars.contains_key(&var.name) {
            return Err(Error::VariableTwice { name: var.name });
        }
        self.vars.insert(var.name.clone(), var);
        Ok(())
    }

    /// Notes which resource each variable reads.
    fn merge_vars(&mut self, work: &Work, vars: &[Var]) -> Result<(), Error> {
        for var in vars {
            let found = self.map.with_any_id(work, |id| {
                if var.object.namespace.is_empty() {
                    var.object.same_gvkn(id)
                } else {
                    var.object.same(id)
                }
            });
            match found[..] {
                [] => {}
                [at] => self.map.list[at].variables.push(var.name.clone()),
                _ => {
                    return Err(Error::VariableMany {
                        name: var.name.clone(),
                        count: found.len(),
                    });
                }
            }
            self.add_var(var.clone())?;
        }
        Ok(())
    }

    /// Updates references to renamed resources.
    pub(crate) fn follow_references(&self, work: &mut Work) -> Result<(), Error> {
        crate::filter::references::follow(work, &self.map, &self.config.name_reference)
    }

    /// Puts the values of variables in.
    pub(crate) fn resolve_vars(&self, work: &mut Work) -> Result<(), Error> {
        let mut values = BTreeMap::new();
        for var in self.vars.values() {
            values.insert(var.name.clone(), self.var_value(work, var)?);
        }
        if values.is_empty() {
            return Ok(());
        }
        let unused = variables::replace(work, &self.map, &values, &self.config.var_reference)?;
        if !unused.is_empty() {
            work.warn(format!("no field uses the variables {}", unused.join(", ")));
        }
        Ok(())
    }

    fn var_value(&self, work: &mut Work, var: &Var) -> Result<VarValue, Error> {
        let missing = |missing: String| Error::VariableMissing {
            name: var.name.clone(),
            missing,
        };
        let node = self
            .map
            .list
            .iter()
            .find(|resource| resource.variables.contains(&var.name))
            .and_then(|resource| resource.node)
            .ok_or_else(|| missing(var.object.to_string()))?;
        VarValue::read(&mut work.tree, node, &var.field)?.ok_or_else(|| missing(var.field.clone()))
    }
}

/// A kustomization that is being rendered.
pub(crate) struct Target<'a> {
    loader: Rc<Loader<'a>>,
    pub(crate) kustomization: Kustomization,
    file_name: &'static str,
    origin: Option<Origin>,
}

/// As what a folder is named.
#[derive(Clone, Copy)]
enum Role {
    Base,
    Component,
}

impl<'a> Target<'a> {
    /// Reads the kustomization of a folder. The outermost one decides what is
    /// noted about origins.
    pub(crate) fn open(work: &mut Work, loader: Rc<Loader<'a>>) -> Result<Self, Error> {
        let mut target = Self::read(work, loader)?;
        target.set_schema(work, true)?;
        target.origin = (!target.kustomization.build_metadata.is_empty()).then(Origin::default);
        Ok(target)
    }

    fn read(work: &mut Work, loader: Rc<Loader<'a>>) -> Result<Self, Error> {
        let mut found = NAMES.iter().filter(|name| loader.has(name));
        let file_name = match (found.next(), found.next()) {
            (Some(name), None) => *name,
            (None, _) => {
                for name in NAMES {
                    loader.asked(&loader.root().join(name));
                }
                return Err(Error::NoKustomization {
                    folder: loader.root().to_owned(),
                });
            }
            (Some(one), Some(other)) => {
                for name in [one, other] {
                    loader.asked(&loader.root().join(name));
                }
                return Err(Error::ManyKustomizations {
                    folder: loader.root().to_owned(),
                });
            }
        };
        let file = loader.root().join(file_name);
        let in_file = |source: Error| Error::InFile {
            file: file.clone(),
            source: Box::new(source),
        };
        let text = loader
            .text(file_name)
            .map_err(|error| in_file(error.into()))?;
        let value = by_v2(&text).map_err(in_file)?;
        let kustomization = Kustomization::read(&value).map_err(in_file)?;
        for warning in &kustomization.warnings {
            work.warn(format!("{}: {warning}", file.display()));
        }
        Ok(Self {
            loader,
            kustomization,
            file_name,
            origin: None,
        })
    }

    fn set_schema(&self, work: &mut Work, outermost: bool) -> Result<(), Error> {
        let openapi = &self.kustomization.openapi;
        let custom = match openapi.get("path") {
            None => None,
            Some(path) => {
                let value = self
                    .value(path)
                    .map_err(|error| self.at("openapi.path", error))?;
                Some(CustomSchema::read(&value))
            }
        };
        let version = openapi.get("version").map(String::as_str);
        work.schemas
            .set(version, custom, outermost)
            .map_err(|error| self.at("openapi", error))
    }

    /// The file of the kustomization.
    pub(crate) fn file(&self) -> PathBuf {
        self.loader.root().join(self.file_name)
    }

    fn at(&self, field: impl Into<String>, source: Error) -> Error {
        Error::At {
            file: self.file(),
            field: field.into(),
            source: Box::new(source),
        }
    }

    fn in_file(&self, path: &str, source: Error) -> Error {
        Error::InFile {
            file: crate::load::normal(&self.loader.root().join(path)),
            source: Box::new(source),
        }
    }

    /// A file as a value.
    fn value(&self, path: &str) -> Result<Value, Error> {
        let text = self.loader.text(path)?;
        by_v2(&text).map_err(|error| self.in_file(path, error))
    }

    /// Everything that this kustomization and those below it bring, on top of
    /// what is there already (which only components see).
    pub(crate) fn accumulate(
        &mut self,
        work: &mut Work,
        mut all: Accumulator,
    ) -> Result<Accumulator, Error> {
        let resources = self.kustomization.resources.clone();
        let own = self.kustomization.own_resources;
        for (at, path) in resources.iter().enumerate() {
            let field = match at.checked_sub(own) {
                None => format!("resources[{at}]"),
                Some(at) => format!("bases[{at}]"),
            };
            self.resource(work, &mut all, path)
                .map_err(|error| self.at(field, error))?;
        }
        let config = self.configuration()?;
        all.merge_config(&config)
            .map_err(|error| self.at("configurations", error))?;
        let crds = self.crds()?;
        all.merge_config(&Arc::new(crds))
            .map_err(|error| self.at("crds", error))?;
        self.generate(work, &mut all)?;
        for (at, path) in self.kustomization.components.clone().iter().enumerate() {
            all = self
                .component(work, all, path)
                .map_err(|error| self.at(format!("components[{at}]"), error))?;
        }
        self.transform(work, &mut all)?;
        self.validate(work, &mut all)?;
        let vars = std::mem::take(&mut self.kustomization.vars);
        all.merge_vars(work, &vars)
            .map_err(|error| self.at("vars", error))?;
        Ok(all)
    }

    /// A file with resources, or a folder or repository with a kustomization.
    fn resource(
        &mut self,
        work: &mut Work,
        all: &mut Accumulator,
        path: &str,
    ) -> Result<(), Error> {
        let file_error = match self.loader.text(path) {
            Ok(text) => return self.resources_of(work, all, path, &text),
            Err(error @ LoadError::Status { .. }) => return Err(error.into()),
            Err(error) => error,
        };
        let loader = match self.loader.enter(path) {
            Ok(loader) => loader,
            // The first error says more about what is not there or no folder.
            Err(LoadError::Read { .. } | LoadError::NotFolder { .. }) => {
                return Err(file_error.into());
            }
            Err(LoadError::Absolute { .. }) if !matches!(file_error, LoadError::NotFile { .. }) => {
                return Err(file_error.into());
            }
            Err(error) => return Err(error.into()),
        };
        let sub = self.enter(work, (loader, path), Role::Base, Accumulator::default())?;
        all.merge(work, sub)
    }

    fn resources_of(
        &self,
        work: &mut Work,
        all: &mut Accumulator,
        path: &str,
        text: &str,
    ) -> Result<(), Error> {
        let nodes = documents::read(work, text).map_err(|error| self.in_file(path, error))?;
        let map = ResMap::from_nodes(work, nodes).map_err(|error| self.in_file(path, error))?;
        if let Some(origin) = &self.origin {
            let text = origin.join(path).text();
            let place =
                crate::filter::fieldspec::FieldSpec::everywhere("metadata/annotations", true);
            let entry = [(resource::ORIGIN.to_owned(), text)].into();
            for node in map.nodes() {
                crate::filter::labels::set(
                    &mut work.tree,
                    node,
                    &entry,
                    std::slice::from_ref(&place),
                )?;
            }
        }
        all.map.append_all(work, map.list)
    }

    fn component(
        &mut self,
        work: &mut Work,
        all: Accumulator,
        path: &str,
    ) -> Result<Accumulator, Error> {
        let loader = self.loader.enter(path)?;
        let sub = self.enter(work, (loader, path), Role::Component, all)?;
        let mut merged = Accumulator::default();
        merged.merge(work, sub)?;
        Ok(merged)
    }

    fn enter(
        &self,
        work: &mut Work,
        (loader, path): (Rc<Loader<'a>>, &str),
        role: Role,
        all: Accumulator,
    ) -> Result<Accumulator, Error> {
        let mut sub = Self::read(work, loader)?;
        sub.kustomization
            .build_metadata
            .clone_from(&self.kustomization.build_metadata);
        sub.origin = self.origin.as_ref().map(|origin| origin.join(path));
        sub.set_schema(work, false)?;
        let folder = sub.loader.root().to_owned();
        match (role, sub.kustomization.is_component) {
            (Role::Component, false) => Err(Error::NotComponent { folder }),
            (Role::Base, true) => Err(Error::IsComponent { folder }),
            _ => sub.accumulate(work, all),
        }
    }

    fn configuration(&self) -> Result<Arc<TransformerConfig>, Error> {
        let builtin = config::builtin();
        let mut own = TransformerConfig::default();
        for (at, path) in self.kustomization.configurations.iter().enumerate() {
            let read = || {
                let value = self.value(path)?;
                let read =
                    TransformerConfig::read(&value).map_err(|error| self.in_file(path, error))?;
                own.with(&read)
            };
            own = read().map_err(|error| self.at(format!("configurations[{at}]"), error))?;
        }
        config::merge(&builtin, &Arc::new(own)).map_err(|error| self.at("configurations", error))
    }

    fn crds(&self) -> Result<TransformerConfig, Error> {
        let mut all = TransformerConfig::default();
        for (at, path) in self.kustomization.crds.iter().enumerate() {
            let read = || {
                let value = self.value(path)?;
                let read = config::crd::read(&value).map_err(|error| self.in_file(path, error))?;
                all.with(&read)
            };
            all = read().map_err(|error| self.at(format!("crds[{at}]"), error))?;
        }
        Ok(all)
    }

    fn generate(&self, work: &mut Work, all: &mut Accumulator) -> Result<(), Error> {
        let options = self.kustomization.generator_options.as_ref();
        let kinds = [
            (What::ConfigMap, "configMapGenerator", "ConfigMapGenerator"),
            (What::Secret, "secretGenerator", "SecretGenerator"),
        ];
        for (what, field, kind) in kinds {
            let generators = match what {
                What::ConfigMap => &self.kustomization.config_maps,
                What::Secret => &self.kustomization.secrets,
            };
            let origin = self
                .origin
                .as_ref()
                .map(|origin| origin.builtin(self.file_name, kind));
            for (at, generator) in generators.iter().enumerate() {
                let generator = generator.clone().with_options(options);
                let make = |work: &mut Work, all: &mut Accumulator| {
                    let node = generator.generate(work, &self.loader, what)?;
                    absorb(work, all, vec![node], origin.as_ref())
                };
                make(work, all).map_err(|error| self.at(format!("{field}[{at}]"), error))?;
            }
        }
        self.external_generators(work, all)
    }

    /// Removes resources that are not meant for the cluster.
    pub(crate) fn drop_local(work: &Work, all: &mut Accumulator) -> Result<(), Error> {
        for node in all.map.nodes() {
            resource::validate(&work.tree, node)?;
        }
        all.map.list.retain(|resource| {
            resource.node.is_some_and(|node| {
                ops::meta_entry(&work.tree, node, "annotations", resource::LOCAL)
                    .is_none_or(|value| value == "false")
            })
        });
        Ok(())
    }
}

/// Takes generated resources in.
fn absorb(
    work: &mut Work,
    all: &mut Accumulator,
    nodes: Vec<crate::yaml::NodeId>,
    origin: Option<&Origin>,
) -> Result<(), Error> {
    if let Some(origin) = origin {
        origin::add(work, &nodes, origin)?;
    }
    let map = ResMap::from_nodes(work, nodes)?;
    all.map.absorb_all(work, map)
}

/// A text by the rules for configuration.
fn by_v2(text: &str) -> Result<Value, Error> {
    let mut tree = Tree::default();
    let Some(root) = parse::document(&mut tree, text)? else {
        return Ok(Value::Null);
    };
    json::by_v2(&tree, root).map_err(|source| Error::Value {
        id: "the file".to_owned(),
        source: source.into(),
    })
}

pub(crate) use transform::{add_hashes, add_managed_by};
