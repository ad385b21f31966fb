//! What a kustomization does to its resources, in the order of kustomize.

use std::collections::HashMap;

use super::{Accumulator, Target};
use crate::config;
use crate::filter::affix::{self, Affix};
use crate::filter::fieldspec::FieldSpec;
use crate::filter::image::{Image, ImageRule};
use crate::filter::labels;
use crate::filter::namespace::{Namespace, Subjects};
use crate::filter::replacement::{self, Replacement};
use crate::filter::replicas;
use crate::kustomization::{self, ReplacementEntry};
use crate::origin;
use crate::resmap::ResMap;
use crate::resource::{self, Strings};
use crate::work::Work;
use crate::yaml::Value;
use crate::{Error, decode, generate};

impl Target<'_> {
    /// All builtin changes, then those of `transformers`.
    pub(super) fn transform(&self, work: &mut Work, all: &mut Accumulator) -> Result<(), Error> {
        let config = std::sync::Arc::clone(&all.config);
        let map = &mut all.map;
        self.merge_patch_list(work, map)?;
        for (at, patch) in self.kustomization.patches.iter().enumerate() {
            self.patch(work, map, patch)
                .map_err(|error| self.at(format!("patches[{at}]"), error))?;
            self.done(work, map, "PatchTransformer")?;
        }
        self.names(work, map, &config)?;
        self.labels(work, map, &config)?;
        let annotations = &self.kustomization.common_annotations;
        if !annotations.is_empty() {
            put_all(work, map, annotations, &config.common_annotations)
                .map_err(|error| self.at("commonAnnotations", error))?;
            self.done(work, map, "AnnotationsTransformer")?;
        }
        for (at, patch) in self.kustomization.patches_json.iter().enumerate() {
            self.json_patch(work, map, patch)
                .map_err(|error| self.at(format!("patchesJson6902[{at}]"), error))?;
            self.done(work, map, "PatchJson6902Transformer")?;
        }
        for (at, (name, count)) in self.kustomization.replicas.iter().enumerate() {
            replicas::set(work, map, name, *count, &config.replicas)
                .map_err(|error| self.at(format!("replicas[{at}]"), error))?;
            self.done(work, map, "ReplicaCountTransformer")?;
        }
        for (at, image) in self.kustomization.images.iter().enumerate() {
            put_image(work, map, image, &config.images)
                .map_err(|error| self.at(format!("images[{at}]"), error))?;
            self.done(work, map, "ImageTagTransformer")?;
        }
        if !self.kustomization.replacements.is_empty() {
            let read = |work: &mut Work| {
                let all = self.replacements(&self.kustomization.replacements)?;
                replacement::apply(&mut work.tree, &map.nodes(), &all)
            };
            read(work).map_err(|error| self.at("replacements", error))?;
            self.done(work, map, "ReplacementTransformer")?;
        }
        self.external_transformers(work, map)
    }

    /// Notes a change and drops what it emptied.
    fn done(&self, work: &mut Work, map: &mut ResMap, kind: &str) -> Result<(), Error> {
        if let Some(origin) = &self.origin {
            origin::add_change(work, map, &origin.builtin(self.file_name, kind))?;
        }
        map.drop_empty(work);
        Ok(())
    }

    fn merge_patch_list(&self, work: &mut Work, map: &mut ResMap) -> Result<(), Error> {
        let entries = &self.kustomization.patches_strategic_merge;
        if entries.is_empty() {
            return Ok(());
        }
        let field = |at: usize| format!("patchesStrategicMerge[{at}]");
        let mut loaded = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let patches = self
                .merge_patches(work, entry)
                .map_err(|error| self.at(field(at), error))?;
            loaded.push(patches);
        }
        if loaded.iter().all(Vec::is_empty) {
            return Err(self.at("patchesStrategicMerge", Error::PatchEmpty));
        }
        for (at, patches) in loaded.iter().enumerate() {
            Self::merge_named(work, map, patches).map_err(|error| self.at(field(at), error))?;
        }
        self.done(work, map, "PatchStrategicMergeTransformer")
    }

    /// Namespace, prefix and suffix.
    fn names(
        &self,
        work: &mut Work,
        map: &mut ResMap,
        config: &config::TransformerConfig,
    ) -> Result<(), Error> {
        let kustomization = &self.kustomization;
        if !kustomization.namespace.is_empty() {
            let namespace = Namespace {
                name: &kustomization.namespace,
                places: &config.namespace,
                unset_only: false,
                subjects: Subjects::default(),
            };
            put_namespace(work, map, &namespace).map_err(|error| self.at("namespace", error))?;
            self.done(work, map, "NamespaceTransformer")?;
        }
        if !kustomization.name_prefix.is_empty() {
            let prefix = Affix::Prefix(&kustomization.name_prefix);
            put_affix(work, map, prefix, &config.name_prefix)
                .map_err(|error| self.at("namePrefix", error))?;
            self.done(work, map, "PrefixTransformer")?;
        }
        if !kustomization.name_suffix.is_empty() {
            let suffix = Affix::Suffix(&kustomization.name_suffix);
            put_affix(work, map, suffix, &config.name_suffix)
                .map_err(|error| self.at("nameSuffix", error))?;
            self.done(work, map, "SuffixTransformer")?;
        }
        Ok(())
    }

    fn labels(
        &self,
        work: &mut Work,
        map: &mut ResMap,
        config: &config::TransformerConfig,
    ) -> Result<(), Error> {
        let common = self.kustomization.common_labels.as_ref();
        let common = common.filter(|labels| !labels.is_empty());
        if self.kustomization.labels.is_empty() && common.is_none() {
            return Ok(());
        }
        for (at, label) in self.kustomization.labels.iter().enumerate() {
            let put = |work: &mut Work| {
                let mut places = label.places.clone();
                config::merge_all(&mut places, &config.labels)?;
                if label.selectors {
                    config::merge_all(&mut places, &config.common_labels)?;
                } else {
                    if label.templates {
                        config::merge_all(&mut places, &config.template_labels)?;
                    }
                    let own = FieldSpec::everywhere("metadata/labels", true);
                    config::merge_one(&mut places, &own)?;
                }
                put_all(work, map, &label.pairs, &places)
            };
            put(work).map_err(|error| self.at(format!("labels[{at}]"), error))?;
            self.done(work, map, "LabelTransformer")?;
        }
        if let Some(common) = common {
            put_all(work, map, common, &config.common_labels)
                .map_err(|error| self.at("commonLabels", error))?;
        }
        self.done(work, map, "LabelTransformer")
    }

    /// Replacements in place and in files, in order.
    pub(super) fn replacements(
        &self,
        entries: &[ReplacementEntry],
    ) -> Result<Vec<Replacement>, Error> {
        let mut all = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let inline = &entry.inline;
            if entry.path.is_empty() {
                all.push(inline.clone());
                continue;
            }
            let targets = inline.targets.as_ref().is_some_and(|all| !all.is_empty());
            if inline.source.is_some() || targets {
                return Err(Error::ReplacementTwice);
            }
            let read = || -> Result<Vec<Replacement>, Error> {
                let value = self.value(&entry.path)?;
                replacements_of(&value).map_err(|error| self.in_file(&entry.path, error))
            };
            all.extend(read().map_err(|error| error.in_field(format!("[{at}].path")))?);
        }
        Ok(all)
    }
}

fn replacements_of(value: &Value) -> Result<Vec<Replacement>, Error> {
    let one = |item: &Value| {
        let mut fields = decode::Fields::lenient(item, "")?;
        kustomization::replacement(&mut fields)
    };
    match value {
        Value::List(items) => items.iter().map(one).collect(),
        Value::Map(_) => Ok(vec![one(value)?]),
        other => Err(Error::Type {
            field: "replacements".to_owned(),
            expected: "a replacement or a list of them",
            found: other.kind(),
        }),
    }
}

/// Puts labels or annotations to all resources.
pub(super) fn put_all(
    work: &mut Work,
    map: &ResMap,
    entries: &Strings,
    places: &[FieldSpec],
) -> Result<(), Error> {
    for node in map.nodes() {
        labels::set(&mut work.tree, node, entries, places)?;
    }
    Ok(())
}

/// Puts an image into all resources.
pub(super) fn put_image(
    work: &mut Work,
    map: &ResMap,
    image: &Image,
    places: &[FieldSpec],
) -> Result<(), Error> {
    let rule = ImageRule::new(image)?;
    for node in map.nodes() {
        rule.apply(&mut work.tree, node, places)?;
    }
    Ok(())
}

/// Puts a prefix or suffix to all names.
pub(super) fn put_affix(
    work: &mut Work,
    map: &ResMap,
    affix: Affix<'_>,
    places: &[FieldSpec],
) -> Result<(), Error> {
    for node in map.nodes() {
        affix::add(work, node, affix, places)?;
    }
    Ok(())
}

/// Moves all resources to a namespace; none may land on another one.
pub(super) fn put_namespace(
    work: &mut Work,
    map: &ResMap,
    namespace: &Namespace<'_>,
) -> Result<(), Error> {
    if namespace.name.is_empty() {
        return Ok(());
    }
    let mut taken: HashMap<_, usize> = HashMap::new();
    for node in map.nodes() {
        *taken.entry(resource::id(work, node).key()).or_default() += 1;
    }
    for node in map.nodes() {
        if work.tree.is_null_or_empty(node) {
            continue;
        }
        if let Some(count) = taken.get_mut(&resource::id(work, node).key()) {
            *count -= 1;
        }
        resource::store_previous_id(work, node)?;
        namespace.apply(work, node)?;
        let id = resource::id(work, node);
        let count = taken.entry(id.key()).or_default();
        *count += 1;
        if *count != 1 {
            return Err(Error::NamespaceConflict { id: id.to_string() });
        }
    }
    Ok(())
}

/// Puts hashes behind the names of resources that asked for it.
pub(crate) fn add_hashes(work: &mut Work, map: &ResMap) -> Result<(), Error> {
    for node in map.nodes() {
        if resource::needs_hash(&work.tree, node) {
            let hash = generate::hash::of(&work.tree, node)?;
            resource::store_previous_id(work, node)?;
            let name = crate::yaml::ops::meta(&work.tree, node, "name");
            let name = crate::yaml::Node::scalar(format!("{name}-{hash}"));
            crate::yaml::ops::set_at(&mut work.tree, node, &["metadata"], "name", name)?;
        }
    }
    Ok(())
}

/// Labels resources as made by kustomize.
pub(crate) fn add_managed_by(work: &mut Work, map: &ResMap) -> Result<(), Error> {
    let entry = [(
        "app.kubernetes.io/managed-by".to_owned(),
        format!("kustomize-{}", crate::VERSION),
    )];
    let place = FieldSpec::everywhere("metadata/labels", true);
    put_all(work, map, &entry.into(), std::slice::from_ref(&place))
}
