//! Uploads in all forms of the specification, "Pushing blobs".

use kiln_registry::server::{Access, Registry};
use kiln_registry::{Algorithm, Digest, digest::Hasher};
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;

use super::{Plain, code, files, header, serve};
use crate::noise;

#[tokio::test]
async fn a_blob_is_sent_in_one_post() {
    let plain = Plain::start().await;
    let digest = Digest::sha256(b"content");
    let path = format!("/v2/app/blobs/uploads/?digest={digest}");
    let answer = plain.call("POST", &path, &[], "content").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let place = header(&answer, "location").to_owned();
    assert_eq!(plain.get(&place).await.bytes().await.unwrap(), "content");
}

#[tokio::test]
async fn a_blob_is_sent_in_chunks_and_resumed() {
    let plain = Plain::start().await;
    let bytes = noise(3000);
    let started = plain.call("POST", "/v2/app/blobs/uploads/", &[], "").await;
    assert_eq!(started.status(), StatusCode::ACCEPTED);
    let place = header(&started, "location").to_owned();
    let range = [("content-range", "0-999")];
    let first = plain
        .call("PATCH", &place, &range, bytes[..1000].to_vec())
        .await;
    assert_eq!(
        (first.status(), header(&first, "range")),
        (StatusCode::ACCEPTED, "0-999")
    );
    // Out of order: the answer says where it goes on.
    let range = [("content-range", "2000-2999")];
    let gap = plain
        .call("PATCH", &place, &range, bytes[2000..].to_vec())
        .await;
    assert_eq!(gap.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&gap, "range"), "0-999");
    let status = plain.get(&place).await;
    assert_eq!(
        (status.status(), header(&status, "range")),
        (StatusCode::NO_CONTENT, "0-999")
    );
    let range = [("content-range", "1000-1999")];
    let second = plain
        .call("PATCH", &place, &range, bytes[1000..2000].to_vec())
        .await;
    assert_eq!(second.status(), StatusCode::ACCEPTED);
    let digest = Digest::sha256(&bytes);
    let last = format!("{place}?digest={digest}");
    let range = [("content-range", "2000-2999")];
    let done = plain
        .call("PUT", &last, &range, bytes[2000..].to_vec())
        .await;
    assert_eq!(done.status(), StatusCode::CREATED);
    let got = plain.get(&format!("/v2/app/blobs/{digest}")).await;
    assert_eq!(got.bytes().await.unwrap(), bytes);
    // The upload is over.
    assert_eq!(code(plain.get(&place).await).await, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn what_came_before_a_connection_broke_is_kept() {
    let plain = Plain::start().await;
    let bytes = noise(2 << 20);
    let started = plain.call("POST", "/v2/app/blobs/uploads/", &[], "").await;
    let place = header(&started, "location").to_owned();
    let mut stream = tokio::net::TcpStream::connect(plain.serving.address())
        .await
        .unwrap();
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes[..1_500_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    // The status waits for the broken request to end.
    let have = loop {
        let status = plain.get(&place).await;
        let (_, last) = header(&status, "range").split_once('-').unwrap();
        let have = last.parse::<usize>().unwrap() + 1;
        if have > 1 {
            break have;
        }
        tokio::task::yield_now().await;
    };
    assert!(have <= 1_500_000);
    let digest = Digest::sha256(&bytes);
    let range = format!("{have}-{}", bytes.len() - 1);
    let last = format!("{place}?digest={digest}");
    let done = plain
        .call(
            "PUT",
            &last,
            &[("content-range", &range)],
            bytes[have..].to_vec(),
        )
        .await;
    assert_eq!(done.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn an_upload_goes_on_after_the_registry_was_started_anew() {
    let plain = Plain::start().await;
    let bytes = noise(5000);
    let started = plain.call("POST", "/v2/app/blobs/uploads/", &[], "").await;
    let place = header(&started, "location").to_owned();
    plain
        .call("PATCH", &place, &[], bytes[..3000].to_vec())
        .await;
    let again = Registry::open(plain.folder.path(), Access::Open).unwrap();
    let serving = serve(&again, None).await;
    let url = |path: &str| format!("http://{}{path}", serving.address());
    let digest = Digest::sha256(&bytes);
    let last = url(&format!("{place}?digest={digest}"));
    let done = plain
        .http
        .put(last)
        .body(bytes[3000..].to_vec())
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), StatusCode::CREATED);
    let got = plain
        .http
        .get(url(&format!("/v2/app/blobs/{digest}")))
        .send()
        .await
        .unwrap();
    assert_eq!(got.bytes().await.unwrap(), bytes);
    serving.stop().await;
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing_behind() {
    let plain = Plain::start().await;
    let started = plain.call("POST", "/v2/app/blobs/uploads/", &[], "").await;
    let place = header(&started, "location").to_owned();
    let wrong = format!("{place}?digest={}", Digest::sha256(b"another"));
    let answer = plain.call("PUT", &wrong, &[], "content").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(code(answer).await, "DIGEST_INVALID");
    let left = |folder: &str| files(&plain.folder.path().join(folder)).len();
    assert_eq!((left("uploads"), left("store/blobs")), (0, 0));
}

#[tokio::test]
async fn a_blob_is_mounted_and_an_upload_cancelled() {
    let plain = Plain::start().await;
    let digest = plain.blob("base", b"content").await;
    let path = format!("/v2/team/app/blobs/uploads/?mount={digest}&from=base");
    let answer = plain.call("POST", &path, &[], "").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let got = plain.get(header(&answer, "location")).await;
    assert_eq!(got.bytes().await.unwrap(), "content");
    // What cannot be mounted becomes an upload.
    let other = Digest::sha256(b"nowhere");
    let path = format!("/v2/team/app/blobs/uploads/?mount={other}&from=base");
    let answer = plain.call("POST", &path, &[], "").await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let place = header(&answer, "location").to_owned();
    let cancelled = plain.call("DELETE", &place, &[], "").await;
    assert_eq!(cancelled.status(), StatusCode::NO_CONTENT);
    assert_eq!(plain.get(&place).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upload_belongs_to_one_repository() {
    let plain = Plain::start().await;
    let started = plain.call("POST", "/v2/app/blobs/uploads/", &[], "").await;
    let place = header(&started, "location").replace("/v2/app/", "/v2/other/");
    let answer = plain.call("PATCH", &place, &[], "x").await;
    assert_eq!(code(answer).await, "BLOB_UPLOAD_UNKNOWN");
    let answer = plain
        .call("PATCH", "/v2/app/blobs/uploads/..", &[], "x")
        .await;
    assert_ne!(answer.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn sha512_is_known_too() {
    let plain = Plain::start().await;
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"content");
    let digest = hasher.finish();
    let path = format!("/v2/app/blobs/uploads/?digest={digest}");
    let answer = plain.call("POST", &path, &[], "content").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let got = plain.get(&format!("/v2/app/blobs/{digest}")).await;
    assert_eq!(header(&got, "docker-content-digest"), digest.to_string());
    assert_eq!(got.bytes().await.unwrap(), "content");
}

#[tokio::test]
async fn equal_blobs_are_kept_once() {
    let plain = Plain::start().await;
    plain.blob("a", b"content").await;
    plain.blob("b", b"content").await;
    assert_eq!(files(&plain.folder.path().join("store/blobs")).len(), 1);
}
