//! Where transformers find names, labels, images and references: the builtin
//! configuration, `configurations` and `crds`.

pub(crate) mod crd;
mod table;

use std::sync::{Arc, OnceLock};

use crate::Error;
use crate::decode::Fields;
use crate::filter::fieldspec::FieldSpec;
use crate::resid::Gvk;
use crate::yaml::Value;

/// Group, version, kind, path and whether to create.
type Row = (&'static str, &'static str, &'static str, &'static str, bool);

/// Group, version and kind that is referred to, and from where.
type References = (&'static str, &'static str, &'static str, &'static [Row]);

/// Fields that hold the name of a resource of some kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackReferences {
    pub(crate) gvk: Gvk,
    pub(crate) referrers: Vec<FieldSpec>,
}

/// The configuration of the builtin transformers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TransformerConfig {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) name_reference: Vec<BackReferences>,
    pub(crate) var_reference: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
}

fn specs(rows: &[Row]) -> Vec<FieldSpec> {
    rows.iter()
        .map(|(group, version, kind, path, create)| {
            FieldSpec::new(named(group, version, kind), *path, *create)
        })
        .collect()
}

fn named(group: &str, version: &str, kind: &str) -> Gvk {
    Gvk {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
    }
}

/// The builtin configuration.
pub(crate) fn builtin() -> Arc<TransformerConfig> {
    static BUILTIN: OnceLock<Arc<TransformerConfig>> = OnceLock::new();
    Arc::clone(BUILTIN.get_or_init(|| {
        let references = table::NAME_REFERENCE
            .iter()
            .map(|(group, version, kind, rows)| BackReferences {
                gvk: named(group, version, kind),
                referrers: specs(rows),
            });
        let raw = TransformerConfig {
            name_prefix: specs(&table::NAME_PREFIX),
            name_suffix: specs(&table::NAME_SUFFIX),
            namespace: specs(&table::NAMESPACE),
            common_labels: specs(&table::COMMON_LABELS),
            labels: Vec::new(),
            template_labels: specs(&table::TEMPLATE_LABELS),
            common_annotations: specs(&table::COMMON_ANNOTATIONS),
            name_reference: references.collect(),
            var_reference: specs(&table::VAR_REFERENCE),
            images: specs(&table::IMAGES),
            replicas: specs(&table::REPLICAS),
        };
        // Merging drops places that others cover; the table has no conflicts.
        Arc::new(TransformerConfig::default().with(&raw).unwrap_or(raw))
    }))
}

/// Merges two configurations. The builtin one is known and costs nothing.
pub(crate) fn merge(
    a: &Arc<TransformerConfig>,
    b: &Arc<TransformerConfig>,
) -> Result<Arc<TransformerConfig>, Error> {
    let builtin = builtin();
    let empty = TransformerConfig::default();
    if **b == empty || (Arc::ptr_eq(a, b) && Arc::ptr_eq(b, &builtin)) {
        return Ok(Arc::clone(a));
    }
    if Arc::ptr_eq(b, &builtin) && **a == empty {
        return Ok(builtin);
    }
    a.with(b).map(Arc::new)
}

/// Adds places to a list; those that are there already are not added twice.
pub(crate) fn merge_all(list: &mut Vec<FieldSpec>, more: &[FieldSpec]) -> Result<(), Error> {
    for place in more {
        merge_one(list, place)?;
    }
    Ok(())
}

/// Adds a place. One that covers a known one counts as known; it must agree
/// on whether to create.
pub(crate) fn merge_one(list: &mut Vec<FieldSpec>, place: &FieldSpec) -> Result<(), Error> {
    let known = list
        .iter()
        .find(|known| known.path == place.path && known.gvk.is_selected(&place.gvk));
    match known {
        Some(known) if known.create != place.create => Err(Error::FieldSpecConflict {
            path: place.path.clone(),
        }),
        Some(_) => Ok(()),
        None => {
            list.push(place.clone());
            Ok(())
        }
    }
}

impl TransformerConfig {
    fn lists(&mut self) -> [&mut Vec<FieldSpec>; 10] {
        [
            &mut self.name_prefix,
            &mut self.name_suffix,
            &mut self.namespace,
            &mut self.common_labels,
            &mut self.labels,
            &mut self.template_labels,
            &mut self.common_annotations,
            &mut self.var_reference,
            &mut self.images,
            &mut self.replicas,
        ]
    }

    /// This one and another one.
    pub(crate) fn with(&self, other: &Self) -> Result<Self, Error> {
        let mut merged = Self::default();
        let mut own = self.clone();
        let mut more = other.clone();
        for (target, list) in merged.lists().into_iter().zip(own.lists()) {
            *target = std::mem::take(list);
        }
        for (target, list) in merged.lists().into_iter().zip(more.lists()) {
            merge_all(target, list)?;
        }
        merged.name_reference = own.name_reference;
        for references in &more.name_reference {
            merged.add_references(references)?;
        }
        merged.sort();
        Ok(merged)
    }

    /// Adds places that refer to a kind.
    pub(crate) fn add_references(&mut self, more: &BackReferences) -> Result<(), Error> {
        let mut found = false;
        for known in self.name_reference.iter_mut().filter(|k| k.gvk == more.gvk) {
            merge_all(&mut known.referrers, &more.referrers)?;
            found = true;
        }
        if !found {
            self.name_reference.push(more.clone());
        }
        Ok(())
    }

    fn sort(&mut self) {
        for list in self.lists() {
            list.sort_by_cached_key(|place| place.gvk.order());
        }
        self.name_reference
            .sort_by_cached_key(|references| references.gvk.order());
    }

    /// Reads one file of `configurations`.
    pub(crate) fn read(value: &Value) -> Result<Self, Error> {
        let mut fields = Fields::coerced(value, "")?;
        let mut config = Self {
            name_prefix: field_specs(&mut fields, "namePrefix")?,
            name_suffix: field_specs(&mut fields, "nameSuffix")?,
            namespace: field_specs(&mut fields, "namespace")?,
            common_labels: field_specs(&mut fields, "commonLabels")?,
            labels: field_specs(&mut fields, "labels")?,
            template_labels: field_specs(&mut fields, "templateLabels")?,
            common_annotations: field_specs(&mut fields, "commonAnnotations")?,
            name_reference: Vec::new(),
            var_reference: field_specs(&mut fields, "varReference")?,
            images: field_specs(&mut fields, "images")?,
            replicas: field_specs(&mut fields, "replicas")?,
        };
        for mut item in fields.structs("nameReference")? {
            config.name_reference.push(BackReferences {
                gvk: gvk(&mut item)?,
                referrers: field_specs(&mut item, "fieldSpecs")?,
            });
            item.finish()?;
        }
        fields.finish()?;
        config.sort();
        Ok(config)
    }
}

/// Reads group, version and kind.
pub(crate) fn gvk(fields: &mut Fields<'_>) -> Result<Gvk, Error> {
    Ok(Gvk {
        group: fields.string("group")?,
        version: fields.string("version")?,
        kind: fields.string("kind")?,
    })
}

/// Reads a list of places.
pub(crate) fn field_specs(fields: &mut Fields<'_>, name: &str) -> Result<Vec<FieldSpec>, Error> {
    let mut list = Vec::new();
    for mut item in fields.structs(name)? {
        let gvk = gvk(&mut item)?;
        let path = item.string("path")?;
        let create = item.bool("create")?;
        item.finish()?;
        list.push(FieldSpec::new(gvk, path, create));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_configuration_merges_into_itself() {
        let builtin = builtin();
        assert_eq!(builtin.with(&builtin).unwrap(), *builtin);
        assert_eq!(
            TransformerConfig::default().with(&builtin).unwrap(),
            *builtin
        );
    }

    #[test]
    fn places_that_disagree_are_refused() {
        let mut list = vec![FieldSpec::everywhere("spec/a", true)];
        assert!(merge_one(&mut list, &FieldSpec::everywhere("spec/a", false)).is_err());
        merge_one(&mut list, &FieldSpec::everywhere("spec/b", false)).unwrap();
        assert_eq!(list.len(), 2);
    }
}
