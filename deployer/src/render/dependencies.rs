//! Every file that an overlay names, so that a change of any is seen, without
//! rendering it: for what a program renders, and for what has bases on other
//! machines. Kiln's own renderer knows by itself what it reads.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use kiln_schemas::yaml::Node;
use serde_json::Value;

use super::kustomize::{Inputs, KustomizeError, Overlay, is_remote};

/// The names that kustomize looks for, in its order.
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Fields that list files or folders with a kustomization of their own.
const FILES_OR_OVERLAYS: [&str; 6] = [
    "resources",
    "bases",
    "components",
    "generators",
    "transformers",
    "validators",
];

/// Fields that list files.
const FILES: [&str; 3] = ["crds", "configurations", "patchesStrategicMerge"];

/// Every file that rendering an overlay of this machine reads: the
/// kustomizations, resources, bases, components, patches, inputs of
/// generators, replacements, transformers and their configurations, schemas
/// and helm values. Remote ones and inline YAML have no file.
pub(super) fn of_overlay(overlay: &Overlay) -> Inputs {
    let mut found = Found::default();
    if !is_remote(&overlay.path) {
        found.overlay(&normal(Path::new(&overlay.path)));
    }
    Inputs {
        files: found.files.into_iter().collect(),
        trouble: found.trouble,
    }
}

#[derive(Default)]
struct Found {
    files: BTreeSet<PathBuf>,
    overlays: BTreeSet<PathBuf>,
    trouble: Option<KustomizeError>,
}

impl Found {
    fn overlay(&mut self, dir: &Path) {
        if !self.overlays.insert(dir.to_owned()) {
            return;
        }
        match self.kustomization(dir) {
            Ok(kustomization) => self.fields(dir, &kustomization),
            Err(error) => {
                self.trouble.get_or_insert(error);
            }
        }
    }

    fn kustomization(&mut self, dir: &Path) -> Result<Value, KustomizeError> {
        let paths = NAMES.map(|name| dir.join(name));
        let Some(path) = paths.iter().find(|path| path.is_file()) else {
            self.files.extend(paths);
            return Err(KustomizeError::NoKustomization {
                dir: dir.to_owned(),
            });
        };
        self.files.insert(path.clone());
        let text = std::fs::read_to_string(path).map_err(|source| KustomizeError::Read {
            path: path.clone(),
            source,
        })?;
        let documents = kiln_schemas::yaml::parse(&text, &path.display().to_string())
            .map_err(|error| KustomizeError::Syntax(Box::new(error)))?;
        Ok(documents.first().map_or(Value::Null, Node::to_value))
    }

    fn fields(&mut self, dir: &Path, kustomization: &Value) {
        for field in FILES_OR_OVERLAYS {
            for item in texts(&kustomization[field]) {
                self.file_or_overlay(dir, item);
            }
        }
        for field in FILES {
            texts(&kustomization[field]).for_each(|item| self.file(dir, item));
        }
        for field in ["patches", "patchesJson6902", "replacements"] {
            list(&kustomization[field])
                .filter_map(|item| item["path"].as_str())
                .for_each(|p| self.file(dir, p));
        }
        if let Some(path) = kustomization["openapi"]["path"].as_str() {
            self.file(dir, path);
        }
        for generator in ["configMapGenerator", "secretGenerator"] {
            list(&kustomization[generator]).for_each(|item| self.generator(dir, item));
        }
        self.helm(dir, kustomization);
    }

    /// A generator's `files` are `[key=]path`; `env` and `envs` are paths.
    fn generator(&mut self, dir: &Path, generator: &Value) {
        for item in texts(&generator["files"]) {
            self.file(dir, item.split_once('=').map_or(item, |(_, path)| path));
        }
        texts(&generator["envs"])
            .chain(generator["env"].as_str())
            .for_each(|item| self.file(dir, item));
    }

    /// Values files, and a chart that lies beside the kustomization.
    fn helm(&mut self, dir: &Path, kustomization: &Value) {
        let home = kustomization["helmGlobals"]["chartHome"]
            .as_str()
            .unwrap_or("charts");
        for chart in list(&kustomization["helmCharts"]) {
            texts(&chart["additionalValuesFiles"])
                .chain(chart["valuesFile"].as_str())
                .for_each(|item| self.file(dir, item));
            if let Some(name) = chart["name"].as_str() {
                self.below(&normal(&dir.join(home).join(name)));
            }
        }
        for chart in list(&kustomization["helmChartInflationGenerator"]) {
            chart["values"]
                .as_str()
                .into_iter()
                .for_each(|item| self.file(dir, item));
        }
    }

    fn file_or_overlay(&mut self, dir: &Path, item: &str) {
        if is_inline(item) || is_remote(item) {
            return;
        }
        let path = normal(&dir.join(item));
        if path.is_dir() {
            self.overlay(&path);
        } else {
            self.files.insert(path);
        }
    }

    fn file(&mut self, dir: &Path, item: &str) {
        if !is_inline(item) && !is_remote(item) {
            self.files.insert(normal(&dir.join(item)));
        }
    }

    fn below(&mut self, dir: &Path) {
        let Ok(entries) = std::fs::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.below(&entry.path());
            } else {
                self.files.insert(entry.path());
            }
        }
    }
}

/// Patches and transformers may stand in the list itself.
fn is_inline(item: &str) -> bool {
    item.contains('\n') || item.trim_start().starts_with('{') || item.contains(": ")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

/// Without `.` and `..`, by name alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn inputs(dir: &Path) -> Inputs {
        of_overlay(&Overlay {
            path: dir.to_string_lossy().into_owned(),
            build_args: vec![],
        })
    }

    fn of(root: &Path, overlay: &str) -> Vec<String> {
        let found = inputs(&root.join(overlay));
        assert!(found.trouble.is_none(), "{:?}", found.trouble);
        found
            .files
            .iter()
            .map(|path| path.strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn every_kind_of_input_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = "
resources: [../base, extra.yaml, 'https://example.com/remote.yaml', github.com/owner/repo]
components: [../component]
patches: [{path: patch.yaml}, {patch: \"- op: remove\\n  path: /a\"}]
patchesStrategicMerge: [merge.yaml, \"{apiVersion: v1}\"]
patchesJson6902: [{path: six.json}]
replacements: [{path: replace.yaml}]
configurations: [refs.yaml]
transformers: [labels.yaml]
crds: [crd.json]
openapi: {path: schema.json}
configMapGenerator: [{name: c, files: [app.conf, key=other.conf], envs: [one.env], env: two.env}]
secretGenerator: [{name: s, files: [secret.txt]}]
helmCharts: [{name: chart, valuesFile: values.yaml, additionalValuesFiles: [more.yaml]}]
";
        write(
            dir.path(),
            &[
                ("o/kustomization.yaml", overlay),
                ("base/kustomization.yml", "resources: [deep.yaml]\n"),
                ("component/Kustomization", "kind: Component\n"),
                ("o/charts/chart/Chart.yaml", ""),
            ],
        );
        let mut expected = vec![
            "base/deep.yaml",
            "base/kustomization.yml",
            "component/Kustomization",
            "o/charts/chart/Chart.yaml",
            "o/kustomization.yaml",
        ];
        let inputs = [
            "app.conf",
            "crd.json",
            "extra.yaml",
            "labels.yaml",
            "merge.yaml",
            "more.yaml",
            "one.env",
            "other.conf",
            "patch.yaml",
            "refs.yaml",
            "replace.yaml",
            "schema.json",
            "secret.txt",
            "six.json",
            "two.env",
            "values.yaml",
        ];
        let inputs: Vec<_> = inputs.iter().map(|name| format!("o/{name}")).collect();
        expected.extend(inputs.iter().map(String::as_str));
        expected.sort_unstable();
        assert_eq!(of(dir.path(), "o"), expected);
    }

    #[test]
    fn overlays_that_name_each_other_end() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("a/kustomization.yaml", "resources: [../b]\n"),
                ("b/kustomization.yaml", "resources: [../a]\n"),
            ],
        );
        assert_eq!(
            of(dir.path(), "a"),
            ["a/kustomization.yaml", "b/kustomization.yaml"]
        );
    }

    #[test]
    fn a_folder_without_kustomization_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let found = inputs(dir.path());
        let error = found.trouble.unwrap();
        assert!(
            error
                .to_string()
                .ends_with("has no kustomization.yaml, kustomization.yml or Kustomization")
        );
        // It is seen when it appears.
        assert!(found.files.contains(&dir.path().join("kustomization.yaml")));
    }

    #[test]
    fn a_base_without_kustomization_hides_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = [("o/kustomization.yaml", "resources: [../b, later.yaml]\n")];
        write(dir.path(), &files);
        std::fs::create_dir(dir.path().join("b")).unwrap();
        let found = inputs(&dir.path().join("o"));
        assert!(found.trouble.is_some());
        for file in ["b/kustomization.yml", "o/later.yaml"] {
            assert!(found.files.contains(&dir.path().join(file)), "{file}");
        }
    }
}
