//! ConfigMaps and Secrets from files, literals and environment files.

pub(crate) mod hash;
mod pairs;

use std::collections::BTreeMap;

use base64::Engine as _;

use crate::Error;
use crate::decode::Fields;
use crate::load::Loader;
use crate::resource::{self, Behavior, Strings};
use crate::work::Work;
use crate::yaml::ops::{self, PathError};
use crate::yaml::{Kind, Node, NodeId, Tag, Tree, style};

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    ConfigMap,
    Secret,
}

/// One entry of `configMapGenerator` or `secretGenerator`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Generator {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) behavior: String,
    pub(crate) literals: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) envs: Vec<String>,
    pub(crate) options: Option<Options>,
    /// The type of a secret.
    pub(crate) secret_type: String,
}

/// `options` of a generator, or `generatorOptions` of all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) labels: Strings,
    pub(crate) annotations: Strings,
    pub(crate) no_hash: bool,
    pub(crate) immutable: bool,
}

impl Options {
    /// Reads the structure.
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<Self, Error> {
        let options = Self {
            labels: fields.string_map("labels")?.unwrap_or_default(),
            annotations: fields.string_map("annotations")?.unwrap_or_default(),
            no_hash: fields.bool("disableNameSuffixHash")?,
            immutable: fields.bool("immutable")?,
        };
        fields.finish()?;
        Ok(options)
    }

    /// Options of all generators where one has none of its own; a switch that
    /// is on for all cannot be off for one.
    fn with_global(local: Option<Self>, global: Option<&Self>) -> Option<Self> {
        let Some(global) = global else { return local };
        let mut merged = local.unwrap_or_default();
        let fill = |own: &mut Strings, all: &Strings| {
            for (key, value) in all {
                own.entry(key.clone()).or_insert_with(|| value.clone());
            }
        };
        fill(&mut merged.labels, &global.labels);
        fill(&mut merged.annotations, &global.annotations);
        merged.no_hash |= global.no_hash;
        merged.immutable |= global.immutable;
        Some(merged)
    }
}

impl Generator {
    /// Reads one entry.
    pub(crate) fn read(fields: &mut Fields<'_>, what: What) -> Result<Self, Error> {
        let mut generator = Self {
            name: fields.string("name")?,
            namespace: fields.string("namespace")?,
            behavior: fields.string("behavior")?,
            literals: fields.strings("literals")?,
            files: fields.strings("files")?,
            envs: fields.strings("envs")?,
            options: fields.inner("options")?.map(Options::read).transpose()?,
            secret_type: String::new(),
        };
        if what == What::Secret {
            generator.secret_type = fields.string("type")?;
        }
        let env = fields.string("env")?;
        if !env.is_empty() {
            generator.envs.push(env);
        }
        Ok(generator)
    }

    /// Merges in the options of all generators.
    pub(crate) fn with_options(mut self, global: Option<&Options>) -> Self {
        self.options = Options::with_global(self.options.take(), global);
        self
    }

    /// Makes the resource.
    pub(crate) fn generate(
        &self,
        work: &mut Work,
        loader: &Loader<'_>,
        what: What,
    ) -> Result<NodeId, Error> {
        if self.name.is_empty() {
            return Err(Error::GeneratorName);
        }
        let data = pairs::read(work, loader, self)?;
        let t = &mut work.tree;
        let root = t.add(Node::empty(Kind::Mapping));
        let kind = match what {
            What::ConfigMap => "ConfigMap",
            What::Secret => "Secret",
        };
        for (name, value) in [("apiVersion", "v1"), ("kind", kind)] {
            ops::set_at(t, root, &[], name, Node::string(value))?;
        }
        ops::set_at(t, root, &["metadata"], "name", Node::string(&self.name))?;
        if !self.namespace.is_empty() {
            ops::set_at(
                t,
                root,
                &["metadata"],
                "namespace",
                Node::string(&self.namespace),
            )?;
        }
        match what {
            What::ConfigMap => put_data(t, root, &data)?,
            What::Secret => self.put_secret(t, root, &data)?,
        }
        self.finish(t, root)?;
        Ok(root)
    }

    fn put_secret(
        &self,
        t: &mut Tree,
        root: NodeId,
        data: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), PathError> {
        let secret_type = if self.secret_type.is_empty() {
            "Opaque"
        } else {
            &self.secret_type
        };
        ops::set_at(t, root, &[], "type", Node::string(secret_type))?;
        ops::lookup_create(t, root, &["data"], Kind::Mapping)?;
        for (key, value) in data {
            ops::set_at(t, root, &["data"], key, Node::string(base64(value)))?;
        }
        Ok(())
    }

    fn finish(&self, t: &mut Tree, root: NodeId) -> Result<(), PathError> {
        if let Some(options) = &self.options {
            for (key, value) in &options.labels {
                ops::set_label(t, root, key, value)?;
            }
            for (key, value) in &options.annotations {
                ops::set_annotation(t, root, key, value)?;
            }
            if options.immutable {
                let mut value = Node::scalar("true");
                value.tag = Tag::Bool;
                ops::set_at(t, root, &[], "immutable", value)?;
            }
        }
        if !self.options.as_ref().is_some_and(|options| options.no_hash) {
            resource::enable_hash(t, root)?;
        }
        resource::set_behavior(t, root, Behavior::read(&self.behavior))
    }
}

fn put_data(t: &mut Tree, root: NodeId, data: &BTreeMap<String, Vec<u8>>) -> Result<(), PathError> {
    for (key, value) in data {
        match std::str::from_utf8(value) {
            Ok(text) => ops::set_at(t, root, &["data"], key, Node::string(text))?,
            Err(_) => ops::set_at(t, root, &["binaryData"], key, Node::string(base64(value)))?,
        }
    }
    Ok(())
}

/// Base64 in lines of 70 characters, as soon as there is more than one.
fn base64(data: &[u8]) -> String {
    const LINE: usize = 70;
    let encoded = base64::engine::general_purpose::STANDARD.encode(data);
    if encoded.len() < LINE {
        return encoded;
    }
    let mut out = String::with_capacity(encoded.len() + encoded.len() / LINE + 1);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out
}

/// Merges the data of a resource over that of another one.
pub(crate) fn merge_data(t: &mut Tree, node: NodeId, other: NodeId) -> Result<(), PathError> {
    for field in ["data", "binaryData"] {
        let entries = |t: &Tree, node| -> Strings {
            t.get(node, field)
                .into_iter()
                .flat_map(|map| t.fields(map))
                .map(|(key, value)| (t.text(key).to_owned(), t.text(value).to_owned()))
                .collect()
        };
        let mut merged = entries(t, other);
        merged.extend(entries(t, node));
        ops::clear(t, node, field)?;
        for (key, value) in &merged {
            let mut value = Node::scalar(value);
            value.tag = Tag::Str;
            if value.value.contains('\n') {
                value.style = style::LITERAL;
            }
            ops::set_at(t, node, &[field], key, value)?;
        }
    }
    Ok(())
}
