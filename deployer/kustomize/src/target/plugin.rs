//! `generators`, `transformers` and `validators`: builtin kinds given by
//! objects of their own.

use super::{Accumulator, Target, absorb, transform};
use crate::config::{self, field_specs};
use crate::decode::Fields;
use crate::filter::affix::Affix;
use crate::filter::namespace::{Namespace, Subjects};
use crate::filter::value_add;
use crate::filter::{replacement, replicas};
use crate::generate::{Generator, What};
use crate::kustomization::{self, Patch, ReplacementEntry};
use crate::origin::{self, Origin};
use crate::resmap::ResMap;
use crate::resource;
use crate::work::Work;
use crate::yaml::{Kind, Node, NodeId, Value, json, ops};
use crate::{Error, documents};

/// A plugin: the object that describes it, and what it says.
struct Plugin {
    node: NodeId,
    kind: String,
    value: Value,
}

impl Target<'_> {
    /// The objects of a field: in place, in files or in folders.
    fn plugins(
        &mut self,
        work: &mut Work,
        entries: &[String],
        field: &str,
    ) -> Result<Vec<Plugin>, Error> {
        let mut all = Accumulator::default();
        let mut paths = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let inline =
                documents::read(work, entry).and_then(|nodes| ResMap::from_nodes(work, nodes));
            let Ok(map) = inline else {
                paths.push((at, entry.clone()));
                continue;
            };
            if let Some(origin) = &self.origin {
                let text = origin.join(self.file_name).text();
                for node in map.nodes() {
                    resource::change_annotations(&mut work.tree, node, |all| {
                        all.insert(resource::ORIGIN.to_owned(), text.clone());
                    })?;
                }
            }
            all.map
                .append_all(work, map.list)
                .map_err(|error| self.at(format!("{field}[{at}]"), error))?;
        }
        for (at, path) in paths {
            self.resource(work, &mut all, &path)
                .map_err(|error| self.at(format!("{field}[{at}]"), error))?;
        }
        all.map
            .nodes()
            .into_iter()
            .map(|node| plugin(work, node).map_err(|error| self.at(field, error)))
            .collect()
    }

    pub(super) fn external_generators(
        &self,
        work: &mut Work,
        all: &mut Accumulator,
    ) -> Result<(), Error> {
        let entries = &self.kustomization.generators;
        for plugin in self.detached().plugins(work, entries, "generators")? {
            let origin = self
                .origin
                .as_ref()
                .and_then(|_| Origin::of_plugin(work, plugin.node));
            let make = |work: &mut Work, all: &mut Accumulator| {
                let nodes = self.run_generator(work, &plugin)?;
                absorb(work, all, nodes, origin.as_ref())
            };
            make(work, all)
                .map_err(|error| self.at("generators", error.in_field(plugin.kind.clone())))?;
        }
        Ok(())
    }
    pub(super) fn external_transformers(
        &self,
        work: &mut Work,
        map: &mut ResMap,
    ) -> Result<(), Error> {
        let entries = &self.kustomization.transformers;
        for plugin in self.detached().plugins(work, entries, "transformers")? {
            let origin = self
                .origin
                .as_ref()
                .and_then(|_| Origin::of_plugin(work, plugin.node));
            self.run_transformer(work, map, &plugin)
                .map_err(|error| self.at("transformers", error.in_field(plugin.kind.clone())))?;
            if let Some(origin) = origin {
                origin::add_change(work, map, &origin)?;
            }
            map.drop_empty(work);
        }
        Ok(())
    }

    /// Validators are transformers that change nothing.
    pub(super) fn validate(&self, work: &mut Work, all: &mut Accumulator) -> Result<(), Error> {
        let entries = &self.kustomization.validators;
        for plugin in self.detached().plugins(work, entries, "validators")? {
            let before = all.map.values(work)?;
            let wrap = |error: Error| self.at("validators", error.in_field(plugin.kind.clone()));
            self.run_transformer(work, &mut all.map, &plugin)
                .map_err(wrap)?;
            if all.map.values(work)? != before {
                return Err(wrap(Error::ValidatorChanges));
            }
        }
        Ok(())
    }

    /// A kustomization without fields at the same place, to read others with.
    fn detached(&self) -> Self {
        Self {
            loader: std::rc::Rc::clone(&self.loader),
            kustomization: kustomization::Kustomization {
                build_metadata: self.kustomization.build_metadata.clone(),
                ..Default::default()
            },
            file_name: self.file_name,
            origin: self.origin.clone(),
        }
    }

    fn run_generator(&self, work: &mut Work, plugin: &Plugin) -> Result<Vec<NodeId>, Error> {
        let mut fields = Fields::lenient(&plugin.value, "")?;
        let what = match plugin.kind.as_str() {
            "ConfigMapGenerator" => What::ConfigMap,
            "SecretGenerator" => What::Secret,
            "IAMPolicyGenerator" => return iam_policy(work, &mut fields),
            "HelmChartInflationGenerator" => {
                return Err(Error::NotNative {
                    what: "helm charts (HelmChartInflationGenerator)".to_owned(),
                });
            }
            kind => {
                return Err(Error::UnknownPlugin {
                    kind: kind.to_owned(),
                    role: "generator",
                });
            }
        };
        let mut generator = Generator::read(&mut fields, what)?;
        if let Some(mut metadata) = fields.inner("metadata")? {
            let (name, namespace) = (metadata.string("name")?, metadata.string("namespace")?);
            if generator.name.is_empty() {
                generator.name = name;
            }
            if generator.namespace.is_empty() {
                generator.namespace = namespace;
            }
        }
        Ok(vec![generator.generate(work, &self.loader, what)?])
    }

    fn run_transformer(
        &self,
        work: &mut Work,
        map: &mut ResMap,
        plugin: &Plugin,
    ) -> Result<(), Error> {
        let mut fields = Fields::lenient(&plugin.value, "")?;
        match plugin.kind.as_str() {
            "AnnotationsTransformer" => {
                let entries = fields.string_map("annotations")?.unwrap_or_default();
                transform::put_all(
                    work,
                    map,
                    &entries,
                    &field_specs(&mut fields, "fieldSpecs")?,
                )
            }
            "LabelTransformer" => {
                let entries = fields.string_map("labels")?.unwrap_or_default();
                transform::put_all(
                    work,
                    map,
                    &entries,
                    &field_specs(&mut fields, "fieldSpecs")?,
                )
            }
            "HashTransformer" => transform::add_hashes(work, map),
            "ImageTagTransformer" => {
                let image = match fields.inner("imageTag")? {
                    Some(mut image) => kustomization::image(&mut image)?,
                    None => Default::default(),
                };
                transform::put_image(work, map, &image, &field_specs(&mut fields, "fieldSpecs")?)
            }
            "NamespaceTransformer" => namespace(work, map, &mut fields),
            "PrefixTransformer" => affix(work, map, &mut fields, "prefix"),
            "SuffixTransformer" => affix(work, map, &mut fields, "suffix"),
            "PrefixSuffixTransformer" => {
                affix(work, map, &mut fields, "prefix")?;
                affix(work, map, &mut fields, "suffix")
            }
            "ReplicaCountTransformer" => {
                let (name, count) = match fields.inner("replica")? {
                    Some(mut replica) => kustomization::replica(&mut replica)?,
                    None => Default::default(),
                };
                let places = field_specs(&mut fields, "fieldSpecs")?;
                replicas::set(work, map, &name, count, &places)
            }
            "ReplacementTransformer" => {
                let mut entries = Vec::new();
                for mut item in fields.structs("replacements")? {
                    entries.push(ReplacementEntry::read(&mut item)?);
                }
                let all = self.replacements(&entries)?;
                replacement::apply(&mut work.tree, &map.nodes(), &all)
            }
            "ValueAddTransformer" => self.add_value(work, map, &mut fields),
            _ => self.run_patch(work, map, plugin, fields),
        }
    }

    fn run_patch(
        &self,
        work: &mut Work,
        map: &mut ResMap,
        plugin: &Plugin,
        mut fields: Fields<'_>,
    ) -> Result<(), Error> {
        match plugin.kind.as_str() {
            "PatchTransformer" => self.patch(work, map, &Patch::read(fields)?),
            "PatchJson6902Transformer" => {
                let patch = Patch {
                    path: fields.string("path")?,
                    patch: fields.string("jsonOp")?,
                    target: fields
                        .inner("target")?
                        .map(kustomization::selector)
                        .transpose()?,
                    ..Patch::default()
                };
                self.json_patch(work, map, &patch)
            }
            "PatchStrategicMergeTransformer" => {
                let paths = fields.strings("paths")?;
                let inline = fields.string("patches")?;
                let mut loaded = Vec::new();
                for path in &paths {
                    loaded.extend(self.merge_patches(work, path)?);
                }
                if !inline.is_empty() {
                    loaded.extend(documents::read(work, &inline)?);
                }
                if loaded.is_empty() {
                    return Err(Error::PatchEmpty);
                }
                Self::merge_named(work, map, &loaded)
            }
            kind => Err(Error::UnknownPlugin {
                kind: kind.to_owned(),
                role: "transformer",
            }),
        }
    }

    fn add_value(
        &self,
        work: &mut Work,
        map: &mut ResMap,
        fields: &mut Fields<'_>,
    ) -> Result<(), Error> {
        let mut value = fields.string("value")?.trim().to_owned();
        if value.is_empty() {
            let folder = self.loader.root().file_name().unwrap_or_default();
            value = folder.to_string_lossy().into_owned();
        }
        let path = fields.string("targetFilePath")?;
        let file = if path.is_empty() {
            Value::Null
        } else {
            self.value(&path)?
        };
        let mut targets = fields.structs("targets")?;
        targets.extend(Fields::lenient(&file, "")?.structs("targets")?);
        if targets.is_empty() {
            return Err(Error::Plugin {
                problem: "a ValueAddTransformer needs `targets`",
            });
        }
        for mut target in targets {
            let selector = target
                .inner("selector")?
                .map(kustomization::selector)
                .transpose()?;
            let field = target.string("fieldPath")?;
            let position = target.int("filePathPosition")?;
            let (Ok(position), false) = (usize::try_from(position), field.is_empty()) else {
                return Err(Error::Plugin {
                    problem: "`fieldPath` must not be empty, nor `filePathPosition` negative",
                });
            };
            let selected = match &selector {
                None => (0..map.list.len()).collect(),
                Some(selector) => map.select(work, selector)?,
            };
            for at in selected {
                let Some(node) = map.list[at].node else {
                    continue;
                };
                if field == "metadata/namespace" {
                    let namespace = Namespace {
                        name: &value,
                        places: &[],
                        unset_only: false,
                        subjects: Subjects::default(),
                    };
                    namespace.apply(work, node)?;
                } else {
                    value_add::add(&mut work.tree, node, &value, &field, position)?;
                }
            }
        }
        Ok(())
    }
}

fn plugin(work: &Work, node: NodeId) -> Result<Plugin, Error> {
    let gvk = resource::gvk(&work.tree, node);
    if !gvk.group.is_empty() || gvk.version != "builtin" {
        return Err(Error::NotNative {
            what: format!("plugins such as {}", gvk.kind),
        });
    }
    let value = json::of_resource(&work.tree, node).map_err(|source| Error::Value {
        id: resource::id(work, node).to_string(),
        source: source.into(),
    })?;
    Ok(Plugin {
        node,
        kind: gvk.kind,
        value,
    })
}

fn namespace(work: &mut Work, map: &ResMap, fields: &mut Fields<'_>) -> Result<(), Error> {
    let name = match fields.inner("metadata")? {
        Some(mut metadata) => metadata.string("namespace")?,
        None => String::new(),
    };
    let places = field_specs(fields, "fieldSpecs")?;
    let unset_only = fields.bool("unsetOnly")?;
    let text = fields.string("setRoleBindingSubjects")?;
    let Some(subjects) = Subjects::read(&text) else {
        return Err(Error::Choice {
            text,
            allowed: "defaultOnly, allServiceAccounts or none",
        });
    };
    let namespace = Namespace {
        name: &name,
        places: &places,
        unset_only,
        subjects,
    };
    transform::put_namespace(work, map, &namespace)
}

fn affix(work: &mut Work, map: &ResMap, fields: &mut Fields<'_>, name: &str) -> Result<(), Error> {
    let text = fields.string(name)?;
    if fields.value("fieldSpecs").is_none() {
        return Err(Error::Plugin {
            problem: "`fieldSpecs` are missing",
        });
    }
    let places = config::field_specs(fields, "fieldSpecs")?;
    let affix = if name == "prefix" {
        Affix::Prefix(&text)
    } else {
        Affix::Suffix(&text)
    };
    transform::put_affix(work, map, affix, &places)
}

/// A service account for Google's cloud.
fn iam_policy(work: &mut Work, fields: &mut Fields<'_>) -> Result<Vec<NodeId>, Error> {
    let cloud = fields.string("cloud")?;
    if cloud != "gke" {
        return Err(Error::Choice {
            text: cloud,
            allowed: "gke",
        });
    }
    let mut pair = |name: &str, keys: [&str; 2]| -> Result<[String; 2], Error> {
        match fields.inner(name)? {
            Some(mut inner) => Ok([inner.string(keys[0])?, inner.string(keys[1])?]),
            None => Ok(Default::default()),
        }
    };
    let [name, namespace] = pair("kubernetesService", ["name", "namespace"])?;
    let [account, project] = pair("serviceAccount", ["name", "projectId"])?;
    let t = &mut work.tree;
    let root = t.add(Node::empty(Kind::Mapping));
    ops::set_at(t, root, &[], "apiVersion", Node::string("v1"))?;
    ops::set_at(t, root, &[], "kind", Node::string("ServiceAccount"))?;
    let email = format!("{account}@{project}.iam.gserviceaccount.com");
    ops::set_at(
        t,
        root,
        &["metadata", "annotations"],
        "iam.gke.io/gcp-service-account",
        Node::scalar(email),
    )?;
    ops::set_at(t, root, &["metadata"], "name", Node::scalar(name))?;
    if !namespace.is_empty() {
        ops::set_at(t, root, &["metadata"], "namespace", Node::scalar(namespace))?;
    }
    Ok(vec![root])
}
