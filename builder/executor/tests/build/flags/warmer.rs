//! The program `warmer`, and builds that use what it left.

use std::fs;

use serde_json::Value;

use super::hub::{Hub, Run};

fn warm(hub: &Hub, flags: &[&str]) -> Run {
    let (trust, dir) = (hub.trust(), hub.text("cache"));
    let args: Vec<&str> = [trust.as_str(), "--cache-dir", &dir]
        .into_iter()
        .chain(flags.iter().copied())
        .collect();
    hub.program(env!("CARGO_BIN_EXE_warmer"), &args, &[], b"")
}

#[test]
fn images_and_those_of_a_dockerfile_become_layouts_by_digest() {
    let hub = Hub::start();
    hub.build(&hub.simple(), "one:v1", &[]).good();
    hub.build(&hub.simple(), "two:v1", &["--label=a=b"]).good();
    let dockerfile = format!(
        "ARG HOST\nFROM $HOST/two:v1 AS unused\nFROM {}\n",
        hub.image("one:v1")
    );
    fs::write(hub.path("Warm"), dockerfile).unwrap();
    let host = format!("HOST={}", hub.host);
    warm(&hub, &["--dockerfile", "Warm", "--build-arg", &host]).good();
    for image in ["one:v1", "two:v1"] {
        let dir = hub.path("cache").join(hub.digest(image));
        let index: Value =
            serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], hub.digest(image));
        let layer = hub.manifest(image)["layers"][0]["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "");
        let blob = fs::read(dir.join("blobs/sha256").join(layer)).unwrap();
        assert_eq!(blob, hub.blob(image, &hub.manifest(image)["layers"][0]));
    }
    let again = warm(&hub, &["-i", &hub.image("one:v1")]).good();
    assert!(again.log.contains("already"), "{}", again.log);
    let forced = warm(&hub, &["-i", &hub.image("one:v1"), "--force"]).good();
    assert!(!forced.log.contains("already"), "{}", forced.log);
    let old = warm(&hub, &["-i", &hub.image("one:v1"), "--cache-ttl=0s"]).good();
    assert!(!old.log.contains("already"), "{}", old.log);
}

#[test]
fn one_image_that_comes_is_enough_and_none_is_an_error() {
    let hub = Hub::start();
    hub.build(&hub.simple(), "one:v1", &[]).good();
    let (one, none) = (hub.image("one:v1"), hub.image("none:v1"));
    let run = warm(&hub, &["-i", &none, "-i", &one]).good();
    assert!(
        run.log.contains("cannot fetch") && run.log.contains("none:v1"),
        "{}",
        run.log
    );
    warm(&hub, &["-i", &none]).fails("none of the 1 images");
    warm(&hub, &[]).fails("usage: warmer");
}

#[test]
fn a_build_takes_the_layers_of_a_base_from_the_volume() {
    let hub = Hub::start();
    hub.build(&hub.simple(), "base:v1", &[]).good();
    warm(&hub, &["-i", &hub.image("base:v1")]).good();
    // The registry has lost the layer; what is fetched can only come from the volume.
    let layer = hub.manifest("base:v1")["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "");
    fs::remove_file(hub.path("registry/store/blobs/sha256").join(layer)).unwrap();
    let dockerfile = format!("FROM {}\nCOPY file /file2\n", hub.image("base:v1"));
    let context = hub.context("derived", &[("Dockerfile", &dockerfile), ("file", "x")]);
    let flags = [
        format!("--store-dir={}", hub.text("empty")),
        format!("--cache-dir={}", hub.text("cache")),
        "--no-push".to_owned(),
        format!("--tar-path={}", hub.text("out.tar")),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    hub.build(&context, "app:v1", &flags).good();
    let other = format!("--store-dir={}", hub.text("another"));
    hub.build(&context, "app:v1", &[&other, "--no-push", flags[3]])
        .fails("sha256:");
}
