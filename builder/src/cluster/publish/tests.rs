use std::collections::BTreeSet;
use std::fs;

use super::*;

fn binary() -> ExecutorBinary {
    ExecutorBinary {
        path: std::env::current_exe().unwrap(),
        arch: "amd64".into(),
    }
}

fn entries(layer: &[u8]) -> BTreeMap<String, (u32, u64)> {
    tar::Archive::new(layer)
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), 0);
            let path = entry.path().unwrap().display().to_string();
            (path, (header.mode().unwrap(), header.size().unwrap()))
        })
        .collect()
}

#[test]
fn the_layer_has_the_program_its_libraries_and_certificates() {
    let files = ExecutorFiles::collect(&binary()).unwrap();
    let layer = files.write_layer(Vec::new()).unwrap();
    let entries = entries(&layer);
    let size = fs::metadata(std::env::current_exe().unwrap())
        .unwrap()
        .len();
    assert_eq!(entries["kaniko/executor"], (0o755, size));
    assert_eq!(entries["kaniko/.docker/"].0, 0o777);
    assert_eq!(entries["tmp/"].0, 0o1777);
    assert!(entries.contains_key("etc/ssl/certs/ca-certificates.crt"));
    for library in elf::closure(&binary().path).unwrap().keys() {
        let path = library.display().to_string();
        assert!(entries.contains_key(path.trim_start_matches('/')), "{path}");
    }
}

#[test]
fn every_folder_stands_before_what_is_in_it() {
    let files = ExecutorFiles::collect(&binary()).unwrap();
    let layer = files.write_layer(Vec::new()).unwrap();
    let mut seen = BTreeSet::new();
    for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
        let path = entry.unwrap().path().unwrap().display().to_string();
        let parent = path
            .trim_end_matches('/')
            .rsplit_once('/')
            .map(|(parent, _)| format!("{parent}/"));
        assert!(parent.is_none_or(|parent| seen.contains(&parent)), "{path}");
        seen.insert(path);
    }
}

#[test]
fn the_same_files_are_the_same_image_and_others_have_another_tag() {
    let folder = tempfile::tempdir().unwrap();
    let make = |extra: &[u8]| {
        let path = folder.path().join("executor");
        let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes.extend_from_slice(extra);
        fs::write(&path, bytes).unwrap();
        let files = ExecutorFiles::collect(&ExecutorBinary {
            path,
            arch: "amd64".into(),
        })
        .unwrap();
        (
            files.tag(),
            files.assemble().unwrap().manifest.digest().to_string(),
        )
    };
    let (tag, digest) = make(b"");
    assert!(tag.starts_with("kiln-executor-"), "{tag}");
    assert_eq!((tag.clone(), digest), make(b""));
    assert_ne!(tag, make(b"another").0);
}

#[test]
fn manifest_and_config_name_what_they_hold() {
    let image = ExecutorFiles::collect(&binary())
        .unwrap()
        .assemble()
        .unwrap();
    let bytes = fs::read(image.file.path()).unwrap();
    assert_eq!(image.layer.size, bytes.len() as u64);
    assert_eq!(image.layer.digest, Digest::sha256(&bytes));
    let mut layer = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut layer)
        .unwrap();
    let config: Value = serde_json::from_slice(&image.config).unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        Digest::sha256(&layer).to_string()
    );
    assert_eq!(config["config"]["Entrypoint"], json!(["/kaniko/executor"]));
    let manifest: Value = serde_json::from_slice(image.manifest.bytes()).unwrap();
    assert_eq!(
        manifest["config"]["digest"],
        Digest::sha256(&image.config).to_string()
    );
    assert_eq!(
        manifest["layers"][0]["digest"],
        image.layer.digest.to_string()
    );
}

#[test]
fn a_missing_architecture_says_what_there_is() {
    let error = choose(&[binary()], Some("arm64")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this installation of Kiln has no executor for arm64; it has amd64"
    );
    assert_eq!(choose(&[binary()], None).unwrap().arch, "amd64");
}

#[test]
fn the_roots_are_pem() {
    let pem = certificates();
    assert!(
        pem.starts_with("-----BEGIN CERTIFICATE-----\nMII"),
        "{}",
        &pem[..40]
    );
    assert!(pem.lines().all(|line| line.len() <= 64));
    assert!(pem.matches("BEGIN CERTIFICATE").count() > 100);
}
