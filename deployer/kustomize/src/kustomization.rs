//! The structure of a kustomization file.

use crate::Error;
use crate::config;
use crate::decode::Fields;
use crate::filter::fieldspec::FieldSpec;
use crate::filter::image::Image;
use crate::filter::replacement::{self, Replacement};
use crate::generate::{Generator, Options, What};
use crate::resid::{Gvk, ResId};
use crate::resource::Strings;
use crate::selector::Selector;
use crate::yaml::Value;

/// A kustomization or component, with old names of fields brought up to date.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kustomization {
    pub(crate) is_component: bool,
    pub(crate) openapi: Strings,
    pub(crate) name_prefix: String,
    pub(crate) name_suffix: String,
    pub(crate) namespace: String,
    pub(crate) common_labels: Option<Strings>,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_annotations: Strings,
    pub(crate) patches_strategic_merge: Vec<String>,
    pub(crate) patches_json: Vec<Patch>,
    pub(crate) patches: Vec<Patch>,
    pub(crate) images: Vec<Image>,
    pub(crate) replacements: Vec<ReplacementEntry>,
    pub(crate) replicas: Vec<(String, i64)>,
    pub(crate) vars: Vec<Var>,
    pub(crate) sort: Option<SortOptions>,
    pub(crate) resources: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) crds: Vec<String>,
    pub(crate) config_maps: Vec<Generator>,
    pub(crate) secrets: Vec<Generator>,
    pub(crate) generator_options: Option<Options>,
    pub(crate) configurations: Vec<String>,
    pub(crate) generators: Vec<String>,
    pub(crate) transformers: Vec<String>,
    pub(crate) validators: Vec<String>,
    pub(crate) build_metadata: Vec<String>,
    /// What a person should hear about.
    pub(crate) warnings: Vec<String>,
    /// How many of `resources` are not from `bases`.
    pub(crate) own_resources: usize,
}

/// One entry of `labels`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Label {
    pub(crate) pairs: Strings,
    pub(crate) selectors: bool,
    pub(crate) templates: bool,
    pub(crate) places: Vec<FieldSpec>,
}

/// One entry of `patches` or `patchesJson6902`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patch {
    pub(crate) path: String,
    pub(crate) patch: String,
    pub(crate) target: Option<Selector>,
    pub(crate) name_change: bool,
    pub(crate) kind_change: bool,
}

/// One entry of `replacements`: in place or in a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplacementEntry {
    pub(crate) path: String,
    pub(crate) inline: Replacement,
}

/// One entry of `vars`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) object: ResId,
    pub(crate) field: String,
}

/// `sortOptions`.
#[derive(Debug, Clone, Default)]
pub(crate) struct SortOptions {
    pub(crate) order: String,
    /// Kinds that come first and last.
    pub(crate) legacy: Option<(Vec<String>, Vec<String>)>,
}

const VERSION: &str = "kustomize.config.k8s.io/v1beta1";
const COMPONENT_VERSION: &str = "kustomize.config.k8s.io/v1alpha1";

impl Kustomization {
    /// Reads a file.
    pub(crate) fn read(value: &Value) -> Result<Self, Error> {
        let mut fields = Fields::strict(value, "")?;
        let api_version = fields.string("apiVersion")?;
        let kind = fields.string("kind")?;
        let mut read = Self {
            is_component: kind == "Component",
            ..Self::default()
        };
        read.basics(&mut fields)?;
        read.lists(&mut fields)?;
        read.structures(&mut fields)?;
        read.helm(&mut fields)?;
        read.deprecations(&mut fields);
        fields.finish()?;
        if is_blank(value) {
            return Err(Error::EmptyKustomization);
        }
        check_kind(&kind, &api_version)?;
        Ok(read)
    }

    fn basics(&mut self, fields: &mut Fields<'_>) -> Result<(), Error> {
        if let Some(mut metadata) = fields.inner("metadata")? {
            metadata.string("name")?;
            metadata.string("namespace")?;
            metadata.string_map("labels")?;
            metadata.string_map("annotations")?;
            metadata.finish()?;
        }
        self.openapi = fields.string_map("openapi")?.unwrap_or_default();
        self.name_prefix = fields.string("namePrefix")?;
        self.name_suffix = fields.string("nameSuffix")?;
        self.namespace = fields.string("namespace")?;
        self.common_labels = fields.string_map("commonLabels")?;
        self.common_annotations = fields.string_map("commonAnnotations")?.unwrap_or_default();
        Ok(())
    }

    fn lists(&mut self, fields: &mut Fields<'_>) -> Result<(), Error> {
        self.patches_strategic_merge = fields.strings("patchesStrategicMerge")?;
        self.resources = fields.strings("resources")?;
        self.own_resources = self.resources.len();
        self.resources.extend(fields.strings("bases")?);
        self.components = fields.strings("components")?;
        self.crds = fields.strings("crds")?;
        self.configurations = fields.strings("configurations")?;
        self.generators = fields.strings("generators")?;
        self.transformers = fields.strings("transformers")?;
        self.validators = fields.strings("validators")?;
        self.build_metadata = fields.strings("buildMetadata")?;
        Ok(())
    }

    fn structures(&mut self, fields: &mut Fields<'_>) -> Result<(), Error> {
        for item in fields.structs("labels")? {
            self.labels.push(Label::read(item)?);
        }
        for item in fields.structs("patches")? {
            self.patches.push(Patch::read(item)?);
        }
        for item in fields.structs("patchesJson6902")? {
            self.patches_json.push(Patch::read(item)?);
        }
        for name in ["images", "imageTags"] {
            for mut item in fields.structs(name)? {
                self.images.push(image(&mut item)?);
                item.finish()?;
            }
        }
        for mut item in fields.structs("replacements")? {
            self.replacements.push(ReplacementEntry::read(&mut item)?);
            item.finish()?;
        }
        for mut item in fields.structs("replicas")? {
            self.replicas.push(replica(&mut item)?);
            item.finish()?;
        }
        for item in fields.structs("vars")? {
            self.vars.push(Var::read(item)?);
        }
        self.sort = fields
            .inner("sortOptions")?
            .map(SortOptions::read)
            .transpose()?;
        self.generator_options = fields
            .inner("generatorOptions")?
            .map(Options::read)
            .transpose()?;
        for mut item in fields.structs("configMapGenerator")? {
            self.config_maps
                .push(Generator::read(&mut item, What::ConfigMap)?);
            item.finish()?;
        }
        for mut item in fields.structs("secretGenerator")? {
            self.secrets.push(Generator::read(&mut item, What::Secret)?);
            item.finish()?;
        }
        Ok(())
    }

    /// Charts are inflated by other programs.
    fn helm(&mut self, fields: &mut Fields<'_>) -> Result<(), Error> {
        fields.inner("helmGlobals")?;
        for name in ["helmCharts", "helmChartInflationGenerator"] {
            if !fields.structs(name)?.is_empty() {
                return Err(Error::NotNative {
                    what: format!("helm charts (`{name}`)"),
                });
            }
        }
        Ok(())
    }

    fn deprecations(&mut self, fields: &mut Fields<'_>) {
        for (old, new) in [
            ("bases", "resources"),
            ("commonLabels", "labels"),
            ("imageTags", "images"),
            ("patchesJson6902", "patches"),
            ("patchesStrategicMerge", "patches"),
            ("vars", "replacements"),
        ] {
            if fields.value(old).is_some() {
                self.warnings
                    .push(format!("`{old}` is deprecated; use `{new}` instead"));
            }
        }
    }
}

/// Nothing but names of the structure and empty texts.
fn is_blank(value: &Value) -> bool {
    let Value::Map(fields) = value else {
        return true;
    };
    let is = |key: &str, names: &[&str]| names.iter().any(|name| key.eq_ignore_ascii_case(name));
    fields.iter().all(|(key, value)| match value {
        _ if is(key, &["apiVersion", "kind"]) => true,
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::List(items) => {
            items.is_empty() && is(key, &["bases", "imageTags", "helmChartInflationGenerator"])
        }
        _ => false,
    })
}

fn check_kind(kind: &str, api_version: &str) -> Result<(), Error> {
    let expected = match kind {
        "" | "Kustomization" => VERSION,
        "Component" => COMPONENT_VERSION,
        _ => {
            return Err(Error::KustomizationKind {
                kind: kind.to_owned(),
            });
        }
    };
    if !api_version.is_empty() && api_version != expected {
        return Err(Error::KustomizationVersion {
            found: api_version.to_owned(),
            expected,
        });
    }
    Ok(())
}

impl Label {
    fn read(mut fields: Fields<'_>) -> Result<Self, Error> {
        let label = Self {
            pairs: fields.string_map("pairs")?.unwrap_or_default(),
            selectors: fields.bool("includeSelectors")?,
            templates: fields.bool("includeTemplates")?,
            places: config::field_specs(&mut fields, "fields")?,
        };
        fields.finish()?;
        Ok(label)
    }
}

impl Patch {
    /// Reads one entry.
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<Self, Error> {
        let mut patch = Self {
            path: fields.string("path")?,
            patch: fields.string("patch")?,
            target: fields.inner("target")?.map(selector).transpose()?,
            ..Self::default()
        };
        if let Some(mut options) = fields.inner("options")? {
            patch.name_change = options.bool("allowNameChange")?;
            patch.kind_change = options.bool("allowKindChange")?;
        }
        fields.finish()?;
        Ok(patch)
    }
}

/// Reads a selector.
pub(crate) fn selector(mut fields: Fields<'_>) -> Result<Selector, Error> {
    let selector = Selector {
        id: res_id(&mut fields)?,
        annotations: fields.string("annotationSelector")?,
        labels: fields.string("labelSelector")?,
    };
    fields.finish()?;
    Ok(selector)
}

fn res_id(fields: &mut Fields<'_>) -> Result<ResId, Error> {
    Ok(ResId {
        gvk: config::gvk(fields)?,
        name: fields.string("name")?,
        namespace: fields.string("namespace")?,
        cluster_scoped: false,
    })
}

/// Reads one entry of `images`.
pub(crate) fn image(fields: &mut Fields<'_>) -> Result<Image, Error> {
    Ok(Image {
        name: fields.string("name")?,
        new_name: fields.string("newName")?,
        tag_suffix: fields.string("tagSuffix")?,
        new_tag: fields.string("newTag")?,
        digest: fields.string("digest")?,
    })
}

/// Reads one entry of `replicas`.
pub(crate) fn replica(fields: &mut Fields<'_>) -> Result<(String, i64), Error> {
    Ok((fields.string("name")?, fields.int("count")?))
}

impl ReplacementEntry {
    /// Reads one entry.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, Error> {
        Ok(Self {
            path: fields.string("path")?,
            inline: replacement(fields)?,
        })
    }
}

/// Reads a replacement.
pub(crate) fn replacement(fields: &mut Fields<'_>) -> Result<Replacement, Error> {
    let source = match fields.inner("source")? {
        None => None,
        Some(mut source) => {
            let read = replacement::Source {
                id: res_id(&mut source)?,
                field: source.string("fieldPath")?,
                options: source.inner("options")?.map(field_options).transpose()?,
            };
            source.finish()?;
            Some(read)
        }
    };
    let value = fields.optional("sourceValue")?;
    let targets = match fields.value("targets") {
        None => None,
        Some(_) => Some(
            fields
                .structs("targets")?
                .into_iter()
                .map(target)
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok(Replacement {
        source,
        value,
        targets,
    })
}

fn target(mut fields: Fields<'_>) -> Result<replacement::Target, Error> {
    let target = replacement::Target {
        select: fields.inner("select")?.map(selector).transpose()?,
        reject: fields
            .structs("reject")?
            .into_iter()
            .map(selector)
            .collect::<Result<_, _>>()?,
        fields: fields.strings("fieldPaths")?,
        options: fields.inner("options")?.map(field_options).transpose()?,
    };
    fields.finish()?;
    Ok(target)
}

fn field_options(mut fields: Fields<'_>) -> Result<replacement::Options, Error> {
    let options = replacement::Options {
        delimiter: fields.string("delimiter")?,
        index: fields.int("index")?,
        create: fields.bool("create")?,
    };
    fields.string("encoding")?;
    fields.finish()?;
    Ok(options)
}

impl Var {
    fn read(mut fields: Fields<'_>) -> Result<Self, Error> {
        let name = fields.string("name")?;
        let mut object = ResId::default();
        if let Some(mut target) = fields.inner("objref")? {
            let api_version = target.string("apiVersion")?;
            object = res_id(&mut target)?;
            match api_version.split('/').collect::<Vec<_>>()[..] {
                [""] => {}
                [version] => version.clone_into(&mut object.gvk.version),
                [group, version] => {
                    object.gvk = Gvk {
                        group: group.to_owned(),
                        version: version.to_owned(),
                        kind: object.gvk.kind,
                    };
                }
                _ => {}
            }
            target.finish()?;
        }
        let mut field = String::new();
        if let Some(mut selector) = fields.inner("fieldref")? {
            field = selector.string("fieldPath")?;
            selector.finish()?;
        }
        if field.is_empty() {
            "metadata.name".clone_into(&mut field);
        }
        fields.finish()?;
        Ok(Self {
            name,
            object,
            field,
        })
    }
}

impl SortOptions {
    fn read(mut fields: Fields<'_>) -> Result<Self, Error> {
        let order = fields.string("order")?;
        let legacy = match fields.inner("legacySortOptions")? {
            None => None,
            Some(mut legacy) => {
                let lists = (legacy.strings("orderFirst")?, legacy.strings("orderLast")?);
                legacy.finish()?;
                Some(lists)
            }
        };
        fields.finish()?;
        Ok(Self { order, legacy })
    }
}
