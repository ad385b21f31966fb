//! `crds`: OpenAPI definitions whose extensions say where names, labels and
//! annotations are.

use std::collections::BTreeMap;

use super::{BackReferences, TransformerConfig, merge_one};
use crate::Error;
use crate::filter::fieldspec::FieldSpec;
use crate::resid::Gvk;
use crate::yaml::Value;

/// How deep definitions are followed into each other.
const DEPTH: usize = 64;

type Definitions<'a> = BTreeMap<&'a str, &'a Value>;

/// Reads one file of `crds`.
pub(crate) fn read(value: &Value) -> Result<TransformerConfig, Error> {
    let Value::Map(fields) = value else {
        return match value {
            Value::Null => Ok(TransformerConfig::default()),
            other => Err(Error::Type {
                field: "crds".to_owned(),
                expected: "a mapping of definitions",
                found: other.kind(),
            }),
        };
    };
    let definitions: Definitions<'_> = fields
        .iter()
        .filter_map(|(name, definition)| Some((name.as_str(), schema(definition)?)))
        .collect();
    let mut config = TransformerConfig::default();
    for (name, definition) in &definitions {
        let properties = definition.get("properties");
        let has = |field| properties.is_some_and(|p| p.get(field).is_some());
        if has("kind") && has("apiVersion") && has("metadata") {
            let gvk = Gvk {
                kind: name.rsplit('.').next().unwrap_or(name).to_owned(),
                ..Gvk::default()
            };
            collect(&mut config, &gvk, &definitions, name, &mut Vec::new())?;
        }
    }
    Ok(config)
}

fn schema(definition: &Value) -> Option<&Value> {
    match definition {
        Value::Map(fields) => fields
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case("schema"))
            .map(|(_, value)| value),
        _ => None,
    }
}

fn collect(
    config: &mut TransformerConfig,
    gvk: &Gvk,
    definitions: &Definitions<'_>,
    name: &str,
    path: &mut Vec<String>,
) -> Result<(), Error> {
    let properties = definitions.get(name).and_then(|d| d.get("properties"));
    let Some(Value::Map(properties)) = properties else {
        return Ok(());
    };
    if path.len() > DEPTH {
        return Err(Error::CrdDepth {
            name: name.to_owned(),
        });
    }
    for (property, value) in properties {
        path.push(property.clone());
        one(config, gvk, value, path)?;
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            collect(config, gvk, definitions, reference, path)?;
        }
        path.pop();
    }
    Ok(())
}

fn one(
    config: &mut TransformerConfig,
    gvk: &Gvk,
    value: &Value,
    path: &[String],
) -> Result<(), Error> {
    let text = |name| value.get(name).and_then(Value::as_str);
    let place = FieldSpec::new(gvk.clone(), path.join("/"), false);
    if text("x-kubernetes-annotation").is_some() {
        merge_one(&mut config.common_annotations, &place)?;
    }
    if text("x-kubernetes-label-selector").is_some() {
        merge_one(&mut config.common_labels, &place)?;
    }
    if text("x-kubernetes-identity").is_some() {
        merge_one(&mut config.name_prefix, &place)?;
    }
    if let (Some(version), Some(kind)) = (
        text("x-kubernetes-object-ref-api-version"),
        text("x-kubernetes-object-ref-kind"),
    ) {
        let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
        let place = FieldSpec::new(gvk.clone(), format!("{}/{key}", path.join("/")), false);
        config.add_references(&BackReferences {
            gvk: Gvk {
                group: String::new(),
                version: version.to_owned(),
                kind: kind.to_owned(),
            },
            referrers: vec![place],
        })?;
    }
    Ok(())
}
