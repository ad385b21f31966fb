//! What the specification says about pulling, manifests, lists and deletion, word for word on the wire.

use kiln_registry::{Descriptor, Digest, MediaType};
use reqwest::StatusCode;
use serde_json::json;

use super::{Plain, body, code, header, manifest};
use crate::noise;

#[tokio::test]
async fn blobs_are_served_whole_and_in_ranges() {
    let plain = Plain::start().await;
    assert_eq!(plain.get("/v2/").await.status(), StatusCode::OK);
    let bytes = noise(1 << 20);
    let digest = plain.blob("team/app", &bytes).await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let head = plain.call("HEAD", &path, &[], "").await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(header(&head, "content-length"), "1048576");
    assert_eq!(header(&head, "docker-content-digest"), digest.to_string());
    let whole = plain.get(&path).await;
    assert_eq!(whole.bytes().await.unwrap(), bytes);
    let part = plain
        .call("GET", &path, &[("range", "bytes=1000-1999")], "")
        .await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&part, "content-range"), "bytes 1000-1999/1048576");
    assert_eq!(part.bytes().await.unwrap(), bytes[1000..2000]);
    let rest = plain
        .call("GET", &path, &[("range", "bytes=1048570-")], "")
        .await;
    assert_eq!(rest.bytes().await.unwrap(), bytes[1_048_570..]);
    let beyond = plain
        .call("GET", &path, &[("range", "bytes=1048576-")], "")
        .await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&beyond, "content-range"), "bytes */1048576");
    let tag = format!("\"{digest}\"");
    let known = plain
        .call("GET", &path, &[("if-none-match", &tag)], "")
        .await;
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_blob_of_another_repository_is_not_there() {
    let plain = Plain::start().await;
    let digest = plain.blob("one", b"content").await;
    let answer = plain.get(&format!("/v2/other/blobs/{digest}")).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(code(answer).await, "BLOB_UNKNOWN");
    let answer = plain.get("/v2/one/blobs/sha256:short").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(code(answer).await, "DIGEST_INVALID");
}

#[tokio::test]
async fn manifests_are_found_by_tag_and_digest_with_their_type() {
    let plain = Plain::start().await;
    let (digest, _) = plain.image("app", "v1", b"layer").await;
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/app/manifests/{reference}");
        let head = plain.call("HEAD", &path, &[], "").await;
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(header(&head, "docker-content-digest"), digest.to_string());
        assert_eq!(
            header(&head, "content-type"),
            MediaType::OciManifest.as_str()
        );
        let got = plain.get(&path).await;
        assert_eq!(
            header(&got, "content-length"),
            header(&head, "content-length")
        );
        assert_eq!(Digest::sha256(&got.bytes().await.unwrap()), digest);
    }
    let missing = plain.get("/v2/app/manifests/v2").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(code(missing).await, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn manifests_that_cannot_be_right_are_refused() {
    let plain = Plain::start().await;
    let value = manifest(b"{}", b"never sent");
    let (answer, _) = plain.manifest("app", "v1", &value).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let errors = body(answer).await;
    assert_eq!(errors["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(
        errors["errors"][0]["detail"][1],
        Digest::sha256(b"never sent").to_string()
    );
    plain.image("app", "v1", b"layer").await;
    let value = manifest(b"{}", b"layer");
    let wrong = Digest::sha256(b"another").to_string();
    let (answer, _) = plain.manifest("app", &wrong, &value).await;
    assert_eq!(code(answer).await, "DIGEST_INVALID");
    let path = "/v2/app/manifests/v2";
    let types = [("content-type", "application/vnd.oci.image.index.v1+json")];
    let answer = plain.call("PUT", path, &types, value.to_string()).await;
    assert_eq!(code(answer).await, "MANIFEST_INVALID");
    let types = [("content-type", MediaType::OciManifest.as_str())];
    let answer = plain.call("PUT", path, &types, "{").await;
    assert_eq!(code(answer).await, "MANIFEST_INVALID");
    let answer = plain
        .call("PUT", path, &types, vec![b' '; (4 << 20) + 1])
        .await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // A foreign layer stays where it is.
    let mut value = manifest(b"{}", b"foreign");
    value["layers"][0]["mediaType"] = json!(MediaType::OciForeignLayerGzip);
    let (answer, _) = plain.manifest("app", "v3", &value).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn tags_are_listed_in_pages() {
    let plain = Plain::start().await;
    for tag in ["v2", "v10", "latest", "v1"] {
        plain.image("team/app", tag, b"layer").await;
    }
    let all = body(plain.get("/v2/team/app/tags/list").await).await;
    assert_eq!(
        all,
        json!({"name": "team/app", "tags": ["latest", "v1", "v10", "v2"]})
    );
    let first = plain.get("/v2/team/app/tags/list?n=3").await;
    let link = header(&first, "link").to_owned();
    assert_eq!(body(first).await["tags"], json!(["latest", "v1", "v10"]));
    let next = link.split_once('<').unwrap().1.split_once('>').unwrap().0;
    assert!(link.ends_with("; rel=\"next\""), "{link}");
    let last = plain.get(next).await;
    assert!(last.headers().get("link").is_none());
    assert_eq!(body(last).await["tags"], json!(["v2"]));
    let unknown = plain.get("/v2/nobody/tags/list").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(code(unknown).await, "NAME_UNKNOWN");
    plain.image("zebra", "v1", b"layer").await;
    let names = body(plain.get("/v2/_catalog").await).await;
    assert_eq!(names, json!({"repositories": ["team/app", "zebra"]}));
}

#[tokio::test]
async fn referrers_are_listed_and_filtered() {
    let plain = Plain::start().await;
    let (subject, _) = plain.image("app", "v1", b"layer").await;
    let subject = Descriptor::new(MediaType::OciManifest, subject, 10);
    let path = format!("/v2/app/referrers/{}", subject.digest);
    let none = plain.get(&path).await;
    assert_eq!(header(&none, "content-type"), MediaType::OciIndex.as_str());
    assert_eq!(body(none).await["manifests"], json!([]));
    let mut signature = manifest(b"{}", b"layer");
    signature["subject"] = json!(subject);
    signature["artifactType"] = json!("application/x.signature");
    signature["annotations"] = json!({"by": "me"});
    let own = Digest::sha256(&serde_json::to_vec(&signature).unwrap()).to_string();
    let (answer, signature) = plain.manifest("app", &own, &signature).await;
    assert_eq!(header(&answer, "oci-subject"), subject.digest.to_string());
    let mut bill = manifest(b"{}", b"layer");
    bill["subject"] = json!(subject);
    plain.manifest("app", "bill", &bill).await;
    let all = body(plain.get(&path).await).await;
    assert_eq!(all["manifests"].as_array().unwrap().len(), 2);
    let some = plain
        .get(&format!("{path}?artifactType=application/x.signature"))
        .await;
    assert_eq!(header(&some, "oci-filters-applied"), "artifactType");
    let found = body(some).await;
    assert_eq!(found["manifests"].as_array().unwrap().len(), 1);
    let entry = &found["manifests"][0];
    assert_eq!(entry["digest"], signature.to_string());
    assert_eq!(entry["annotations"], json!({"by": "me"}));
    // Without an artifactType the configuration's type stands for it.
    let by_config = plain
        .get(&format!(
            "{path}?artifactType={}",
            MediaType::OciConfig.as_str().replace('+', "%2B")
        ))
        .await;
    assert_eq!(
        body(by_config).await["manifests"].as_array().unwrap().len(),
        1
    );
    plain
        .call("DELETE", &format!("/v2/app/manifests/{signature}"), &[], "")
        .await;
    assert_eq!(
        body(plain.get(&path).await).await["manifests"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_subject_may_come_later() {
    let plain = Plain::start().await;
    plain.image("app", "v1", b"layer").await;
    let later = Digest::sha256(b"not here yet");
    let mut value = manifest(b"{}", b"layer");
    value["subject"] = json!(Descriptor::new(MediaType::OciManifest, later.clone(), 12));
    let (answer, _) = plain.manifest("app", "sig", &value).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(header(&answer, "oci-subject"), later.to_string());
}

#[tokio::test]
async fn tags_manifests_and_blobs_are_deleted() {
    let plain = Plain::start().await;
    let (digest, layer) = plain.image("app", "v1", b"layer").await;
    plain.image("app", "v2", b"layer").await;
    let delete = |path: String| {
        let plain = &plain;
        async move { plain.call("DELETE", &path, &[], "").await.status() }
    };
    assert_eq!(
        delete("/v2/app/manifests/v2".to_owned()).await,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        plain.get("/v2/app/manifests/v2").await.status(),
        StatusCode::NOT_FOUND
    );
    let by_digest = format!("/v2/app/manifests/{digest}");
    assert_eq!(plain.get(&by_digest).await.status(), StatusCode::OK);
    assert_eq!(delete(by_digest.clone()).await, StatusCode::ACCEPTED);
    // The tag that led to it is gone with it.
    assert_eq!(
        plain.get("/v2/app/manifests/v1").await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(delete(by_digest).await, StatusCode::NOT_FOUND);
    let blob = format!("/v2/app/blobs/{layer}");
    assert_eq!(delete(blob.clone()).await, StatusCode::ACCEPTED);
    assert_eq!(plain.get(&blob).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn names_and_methods_that_do_not_exist_are_errors() {
    let plain = Plain::start().await;
    let answer = plain.get("/v2/UPPER/tags/list").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(code(answer).await, "NAME_INVALID");
    assert_eq!(plain.get("/v3/").await.status(), StatusCode::NOT_FOUND);
    let answer = plain.call("POST", "/v2/app/manifests/v1", &[], "").await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(code(answer).await, "UNSUPPORTED");
}
