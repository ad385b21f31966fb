//! Garbage.

use std::time::Duration;

use kiln_registry::server::{Collected, Policy, Untagged};
use kiln_registry::{Descriptor, MediaType};
use reqwest::StatusCode;
use serde_json::json;

use super::{Plain, manifest};

const NOW: Policy = Policy {
    grace: Duration::ZERO,
    untagged: Untagged::Kept,
};

async fn collect(plain: &Plain, policy: Policy) -> Collected {
    let registry = plain.registry.clone();
    tokio::task::spawn_blocking(move || registry.collect(&policy).unwrap())
        .await
        .unwrap()
}

async fn status(plain: &Plain, path: String) -> StatusCode {
    plain.get(&path).await.status()
}

#[tokio::test]
async fn what_a_manifest_names_stays_and_the_rest_goes() {
    let plain = Plain::start().await;
    let (_, layer) = plain.image("app", "v1", b"used").await;
    let loose = plain.blob("app", b"loose").await;
    plain.call("POST", "/v2/app/blobs/uploads/", &[], "").await;
    let hour = Policy {
        grace: Duration::from_secs(3600),
        ..NOW
    };
    assert_eq!(collect(&plain, hour).await, Collected::default());
    let collected = collect(&plain, NOW).await;
    let expected = Collected {
        manifests: 0,
        links: 1,
        blobs: 1,
        bytes: 5,
        uploads: 1,
    };
    assert_eq!(collected, expected);
    assert_eq!(
        status(&plain, format!("/v2/app/blobs/{layer}")).await,
        StatusCode::OK
    );
    assert_eq!(
        status(&plain, format!("/v2/app/blobs/{loose}")).await,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn manifests_without_a_tag_go_where_that_is_asked_for() {
    let plain = Plain::start().await;
    let (old, layer) = plain.image("app", "v1", b"old").await;
    let (new, _) = plain.image("app", "v1", b"new").await;
    // An index keeps what it lists, a subject what is about it.
    let (listed, _) = plain.image("app", "tmp", b"listed").await;
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OciIndex,
        "manifests": [Descriptor::new(MediaType::OciManifest, listed.clone(), 1)]});
    plain.manifest("app", "all", &index).await;
    let mut about = manifest(b"{}", b"new");
    about["subject"] = json!(Descriptor::new(MediaType::OciManifest, new.clone(), 1));
    let (_, about) = plain.manifest("app", "sig", &about).await;
    for tag in ["tmp", "sig"] {
        plain
            .call("DELETE", &format!("/v2/app/manifests/{tag}"), &[], "")
            .await;
    }
    assert_eq!(collect(&plain, NOW).await.manifests, 0);
    let strict = Policy {
        untagged: Untagged::Removed,
        ..NOW
    };
    let collected = collect(&plain, strict).await;
    assert_eq!(
        (collected.manifests, collected.links, collected.blobs),
        (1, 1, 2)
    );
    for (digest, expected) in [
        (&old, StatusCode::NOT_FOUND),
        (&new, StatusCode::OK),
        (&listed, StatusCode::OK),
        (&about, StatusCode::OK),
    ] {
        let path = format!("/v2/app/manifests/{digest}");
        assert_eq!(status(&plain, path).await, expected, "{digest}");
    }
    assert_eq!(
        status(&plain, format!("/v2/app/blobs/{layer}")).await,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_blob_that_another_repository_has_stays_on_the_disk() {
    let plain = Plain::start().await;
    plain.image("app", "v1", b"shared").await;
    plain.blob("other", b"shared").await;
    let collected = collect(&plain, NOW).await;
    assert_eq!((collected.links, collected.blobs), (1, 0));
}
