use std::path::Path;

use super::*;
use crate::yaml;

/// `tests/upgrade/<from>-<to>/` holds one document before and after a hop.
#[test]
fn every_hop_has_a_golden_pair_and_agrees_with_it() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    for (index, pair) in VERSIONS.windows(2).enumerate() {
        let folder = goldens.join(format!("{}-{}", pair[0], pair[1]));
        let read = |name: &str| {
            let file = folder.join(name);
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
            yaml::parse(&text, &file.to_string_lossy())
                .unwrap()
                .remove(0)
        };
        let report = Report::default();
        let mut document = read("before.yaml");
        one_step(&mut document, Version(index), &report);
        assert_eq!(
            document.to_value(),
            read("after.yaml").to_value(),
            "{folder:?}"
        );
        report.finish().unwrap();
    }
}

#[test]
fn a_value_that_moved_still_points_at_its_line() {
    let text = "\
apiVersion: skaffold/v2beta29
deploy:
  kustomize:
    paths:
      - overlay
";
    let mut document = yaml::parse(text, "skaffold.yaml").unwrap().remove(0);
    to_latest(
        &mut document,
        Version::named("v2beta29").unwrap(),
        &Report::default(),
    );
    let path = document.pointer("/manifests/kustomize/paths/0").unwrap();
    assert_eq!((path.span.line, path.span.column), (5, 9));
}

#[test]
fn deployers_that_disagree_are_an_error() {
    let text = "\
apiVersion: skaffold/v2beta29
deploy:
  kubectl: {defaultNamespace: one}
  kustomize: {defaultNamespace: two}
";
    let mut document = yaml::parse(text, "skaffold.yaml").unwrap().remove(0);
    let report = Report::default();
    to_latest(&mut document, Version::named("v2beta29").unwrap(), &report);
    let errors = report.finish().unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "skaffold.yaml:4:33: `defaultNamespace` of deploy.kustomize differs from that of \
         deploy.kubectl (line 3)"
    );
}
