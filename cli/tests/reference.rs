//! The checked-in reference of the command line, and the example in it.

use kiln_schemas::settings::SettingsFile;

const CHECKED_IN: &str = include_str!("../../docs/commands.md");

#[test]
fn the_checked_in_reference_is_current() {
    assert!(
        CHECKED_IN == kiln::reference::commands(),
        "regenerate it: cargo run -p kiln --example commands > docs/commands.md"
    );
}

#[test]
fn the_example_of_the_settings_is_read_without_a_complaint() {
    let blocks: Vec<&str> = CHECKED_IN.split("```yaml\n").skip(1).collect();
    assert_eq!(blocks.len(), 1, "the page has one example");
    let text = blocks[0].split("```").next().unwrap_or_default();
    let settings =
        SettingsFile::parse(text, "config.yaml").unwrap_or_else(|errors| panic!("{errors:#?}"));
    let effective = settings.effective(Some("kind-dev"));
    assert_eq!(effective.default_repo.as_deref(), Some("localhost:5000"));
    assert!(effective.registries.contains_key("docker.io"));
}
