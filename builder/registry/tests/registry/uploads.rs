//! What goes wrong with writing: a scripted registry that keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::response::Response;
use kiln_registry::client::push::{BlobSource, Mount, Progress, Pushed};
use kiln_registry::settings::Upload;
use kiln_registry::{Error, Keychain, Reference};

use crate::scripted::{Scripted, Seen, client, quick, with};
use crate::{image, noise, reference};

/// Where a registry has begun an upload.
const SESSION: &str = "/v2/app/blobs/uploads/1?state=a";
const BEGIN: &str = "POST /v2/app/blobs/uploads/";

fn begun() -> Response {
    with(202, &[("location", SESSION)], "")
}

fn app(server: &Scripted) -> Reference {
    reference(&format!("{}/app:v1", server.host()))
}

fn put_of(blob: &BlobSource) -> String {
    format!(
        "PUT {SESSION}&digest={}",
        blob.digest().to_string().replace(':', "%3A")
    )
}

#[tokio::test]
async fn a_mount_that_becomes_an_upload_is_used() {
    let blob = BlobSource::bytes(noise(1000));
    let server = Scripted::start(|seen, _| match seen.line.split('?').next().unwrap() {
        BEGIN => begun(),
        "PUT /v2/app/blobs/uploads/1" => with(201, &[], ""),
        _ => with(404, &[], ""),
    })
    .await;
    let origin = reference(&format!("{}/base", server.host()));
    let pushed = client(quick(), Keychain::anonymous())
        .push_blob(
            &app(&server),
            &blob.clone().mountable_from(&origin),
            &Progress::silent(),
        )
        .await
        .unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    let posts: Vec<String> = server
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("POST"))
        .collect();
    let digest = blob.digest().to_string().replace(':', "%3A");
    assert_eq!(
        posts,
        [format!("{BEGIN}?mount={digest}&from=base")],
        "the upload that was begun is used"
    );
    assert_eq!(server.count(&put_of(&blob)), 1);
}

#[tokio::test]
async fn a_mount_that_is_denied_becomes_an_upload() {
    let blob = BlobSource::bytes(noise(1000));
    // The token server refuses a token for two repositories, as Harbor does for a repository it hides.
    let server = Scripted::start(|seen, _| {
        let realm = format!(
            "Bearer realm=\"http://{}/token\",service=\"s\"",
            seen.header("host").unwrap()
        );
        match (
            seen.line.split('?').next().unwrap(),
            seen.header("authorization"),
        ) {
            ("GET /token", _) if seen.line.contains("base") => with(403, &[], ""),
            ("GET /token", _) => with(200, &[], r#"{"token":"t"}"#),
            (_, None) => with(401, &[("www-authenticate", &realm)], ""),
            (BEGIN, _) => begun(),
            ("PUT /v2/app/blobs/uploads/1", _) => with(201, &[], ""),
            _ => with(404, &[], ""),
        }
    })
    .await;
    let origin = reference(&format!("{}/base", server.host()));
    let client = client(quick(), Keychain::anonymous());
    let mountable = blob.clone().mountable_from(&origin);
    assert_eq!(
        client
            .push_blob(&app(&server), &mountable, &Progress::silent())
            .await
            .unwrap(),
        Pushed::Uploaded
    );
    assert_eq!(
        client
            .mount_blob(&app(&server), &origin, blob.digest())
            .await
            .unwrap(),
        Mount::Refused
    );
}

#[tokio::test]
async fn a_blob_of_another_registry_is_not_mounted() {
    let blob = BlobSource::bytes(noise(10)).mountable_from(&reference("docker.io/library/base"));
    let server = Scripted::start(|seen, _| match seen.line.split('?').next().unwrap() {
        BEGIN => begun(),
        line if line.starts_with("PUT") => with(201, &[], ""),
        _ => with(404, &[], ""),
    })
    .await;
    client(quick(), Keychain::anonymous())
        .push_blob(&app(&server), &blob, &Progress::silent())
        .await
        .unwrap();
    assert_eq!(server.count(BEGIN), 1);
}

#[tokio::test]
async fn an_upload_that_fails_for_now_starts_over_from_the_file() {
    let content = noise(200_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    std::fs::write(&path, &content).unwrap();
    let descriptor = kiln_registry::Descriptor::of(kiln_registry::MediaType::OciLayer, &content);
    let blob = BlobSource::file(&path, &descriptor);
    let server = Scripted::start(|seen, before| match seen.line.split('?').next().unwrap() {
        BEGIN => begun(),
        line if line.starts_with("PUT") => with(if before == 0 { 503 } else { 201 }, &[], ""),
        _ => with(404, &[], ""),
    })
    .await;
    let reports = Arc::new(Mutex::new(Vec::new()));
    let log = reports.clone();
    let progress = Progress::new(move |sent| log.lock().unwrap().push(sent));
    client(quick(), Keychain::anonymous())
        .push_blob(&app(&server), &blob, &progress)
        .await
        .unwrap();
    let puts: Vec<Seen> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.line.starts_with("PUT"))
        .collect();
    assert_eq!((puts.len(), server.count(BEGIN)), (2, 2));
    assert!(
        puts.iter()
            .all(|put| put.body == content && put.header("content-length") == Some("200000"))
    );
    let reports = reports.lock().unwrap();
    assert_eq!(
        reports.iter().filter(|sent| **sent == 200_000).count(),
        2,
        "{reports:?}"
    );
}

#[tokio::test]
async fn a_file_that_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    std::fs::write(&path, b"short").unwrap();
    let descriptor =
        kiln_registry::Descriptor::of(kiln_registry::MediaType::OciLayer, b"much longer");
    let server = Scripted::start(|seen, _| {
        if seen.line == BEGIN {
            begun()
        } else {
            with(404, &[], "")
        }
    })
    .await;
    let mut settings = quick();
    settings.retry.pauses.clear();
    let blob = BlobSource::file(&path, &descriptor);
    let error = client(settings, Keychain::anonymous())
        .push_blob(&app(&server), &blob, &Progress::silent())
        .await
        .unwrap_err();
    let Error::Source { source, .. } = error else {
        panic!("{error:?}")
    };
    assert!(
        source.to_string().contains("has 5 bytes and not 11"),
        "{source}"
    );
}

/// A registry that takes chunks only, keeps them, and refuses those that a test names by their number.
async fn chunky(
    refuse: impl Fn(usize, usize) -> Option<u16> + Send + Sync + 'static,
) -> (Scripted, Arc<Mutex<Vec<u8>>>) {
    let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (store, patches) = (kept.clone(), Mutex::new(0));
    let server = Scripted::start(move |seen, _| {
        let mut store = store.lock().unwrap();
        let range = |length: usize| format!("0-{}", length.saturating_sub(1));
        match seen.line.split([' ', '?']).next().unwrap() {
            "POST" => begun(),
            "PATCH" => {
                let mut patches = patches.lock().unwrap();
                *patches += 1;
                if let Some(status) = refuse(*patches, seen.body.len()) {
                    return with(status, &[], "");
                }
                let start = seen
                    .header("content-range")
                    .unwrap()
                    .split('-')
                    .next()
                    .unwrap();
                if start.parse() != Ok(store.len()) {
                    return with(416, &[], "");
                }
                store.extend_from_slice(&seen.body);
                with(
                    202,
                    &[("location", SESSION), ("range", &range(store.len()))],
                    "",
                )
            }
            "GET" if seen.line.contains("uploads/1") => with(
                204,
                &[("location", SESSION), ("range", &range(store.len()))],
                "",
            ),
            "PUT" if seen.body.is_empty() => with(201, &[], ""),
            "PUT" => with(413, &[], ""),
            _ => with(404, &[], ""),
        }
    })
    .await;
    (server, kept)
}

#[tokio::test]
async fn a_whole_blob_that_is_too_large_goes_in_chunks() {
    let content = noise(10 << 20);
    // Bodies of more than 3 MiB are refused.
    let (server, kept) = chunky(|_, length| (length > 3 << 20).then_some(413)).await;
    let blob = BlobSource::bytes(content.clone());
    client(quick(), Keychain::anonymous())
        .push_blob(&app(&server), &blob, &Progress::silent())
        .await
        .unwrap();
    assert!(
        *kept.lock().unwrap() == content,
        "the chunks make up the blob"
    );
    assert_eq!(
        server.count(&put_of(&blob)),
        2,
        "the first whole, the last empty"
    );
}

#[tokio::test]
async fn chunks_go_on_where_the_registry_stands() {
    let content = noise(50_000);
    for status in [416, 503] {
        let (server, kept) = chunky(move |number, _| (number == 3).then_some(status)).await;
        let mut settings = quick();
        settings.upload = Upload::Chunks(10_000);
        let blob = BlobSource::bytes(content.clone());
        client(settings, Keychain::anonymous())
            .push_blob(&app(&server), &blob, &Progress::silent())
            .await
            .unwrap();
        assert!(*kept.lock().unwrap() == content, "{status}");
        let asked = server
            .lines()
            .iter()
            .filter(|line| line.starts_with("GET") && line.contains("uploads/1"))
            .count();
        assert_eq!(asked, 1, "{status}");
    }
}

#[tokio::test]
async fn an_immutable_tag_is_told_from_other_refusals() {
    let push = async |status: u16, message: &'static str| {
        let body =
            serde_json::json!({"errors": [{"code": "DENIED", "message": message}]}).to_string();
        let server = Scripted::start(move |_, _| with(status, &[], body.clone())).await;
        client(quick(), Keychain::anonymous())
            .push_manifest(&app(&server), &image(&[]).1)
            .await
            .unwrap_err()
    };
    for (status, message) in [
        (
            400,
            "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.",
        ),
        (403, "The repository has enabled tag immutability"),
    ] {
        assert!(
            matches!(push(status, message).await, Error::ImmutableTag { .. }),
            "{message}"
        );
    }
    assert!(matches!(push(403, "no").await, Error::Denied { .. }));
}

/// distribution 3.0.0 answers 400 while somebody else pushes a blob of the manifest; the specification has 404 for it
/// as well ("Pushing Manifests").
#[tokio::test]
async fn a_manifest_whose_blob_is_missed_is_sent_again() {
    let push = async |status: u16, tries_that_fail: usize, code: &'static str| {
        let errors = serde_json::json!({"errors": [
            {"code": "DIGEST_INVALID", "message": "provided digest did not match uploaded content"},
            {"code": code, "message": "blob unknown to registry"},
        ]});
        let server = Scripted::start(move |_, before| {
            if before < tries_that_fail {
                with(status, &[], errors.to_string())
            } else {
                with(201, &[], "")
            }
        })
        .await;
        let pushed = client(quick(), Keychain::anonymous())
            .push_manifest(&app(&server), &image(&[]).1)
            .await;
        (pushed, server.count("PUT /v2/app/manifests/v1"))
    };
    for status in [400, 404] {
        let (pushed, tries) = push(status, 2, "MANIFEST_BLOB_UNKNOWN").await;
        assert!(matches!((pushed, tries), (Ok(()), 3)), "{status}");
        let (refused, tries) = push(status, 9, "MANIFEST_BLOB_UNKNOWN").await;
        let refused = refused.unwrap_err().to_string();
        let named = "MANIFEST_BLOB_UNKNOWN: blob unknown";
        assert!(refused.contains(named), "{status}: {refused}");
        assert_eq!(tries, 3, "{status}");
        let (pushed, tries) = push(status, 9, "MANIFEST_INVALID").await;
        assert!(matches!((pushed, tries), (Err(_), 1)), "{status}");
    }
}

#[tokio::test]
async fn a_push_check_leaves_nothing_behind() {
    let server = Scripted::start(|seen, _| match seen.line.as_str() {
        BEGIN => begun(),
        line if line.starts_with("DELETE") => with(204, &[], ""),
        _ => with(404, &[], ""),
    })
    .await;
    client(quick(), Keychain::anonymous())
        .check_push(&app(&server))
        .await
        .unwrap();
    assert_eq!(server.count(&format!("DELETE {SESSION}")), 1);
}
