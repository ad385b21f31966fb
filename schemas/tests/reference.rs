//! The checked-in reference of `kiln.yaml`, and the examples in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_schemas::{Environment, ProfileChoice, config};

const CHECKED_IN: &str = include_str!("../../docs/kiln-yaml.md");

#[test]
fn the_checked_in_reference_is_current() {
    assert!(
        CHECKED_IN == config::reference(),
        "regenerate it: cargo run -p kiln-schemas --example reference > docs/kiln-yaml.md"
    );
}

#[test]
fn every_example_of_the_guide_is_read_without_a_complaint() {
    let environment = Environment {
        vars: BTreeMap::new(),
        cwd: PathBuf::from("/src"),
        kube_context: None,
        command: "dev".to_owned(),
    };
    let choice = ProfileChoice {
        names: Vec::new(),
        automatic: true,
    };
    let mut examples = 0;
    for block in CHECKED_IN.split("```yaml\n").skip(1) {
        let text = block.split("```").next().unwrap_or_default();
        let reading = config::read(text, Path::new("kiln.yaml"), &environment, &choice);
        let reading = reading.unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
        assert_eq!(reading.notes, [], "{text}");
        examples += 1;
    }
    assert_eq!(examples, 8, "an example is missing or has another fence");
}
