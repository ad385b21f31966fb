//! What goes wrong with reading: scripted answers.

use kiln_registry::digest::Mismatch;
use kiln_registry::error::TransportError;
use kiln_registry::settings::{AfterMirrors, AfterRefusal};
use kiln_registry::{Descriptor, Error, Keychain, MediaType, Settings};

use crate::scripted::{Scripted, Seen, broken, client, quick, with};
use crate::{image, noise, reference};

const MANIFEST: &str = "GET /v2/app/manifests/v1";

fn manifest() -> axum::response::Response {
    let (_, manifest) = image(&[]);
    with(
        200,
        &[("content-type", manifest.media_type().as_str())],
        manifest.bytes().to_vec(),
    )
}

/// A server that answers everything but the probe with `script`.
async fn serving(
    script: impl Fn(&Seen, usize) -> axum::response::Response + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |seen, before| {
        if seen.line == "GET /v2/" {
            with(200, &[], "")
        } else {
            script(seen, before)
        }
    })
    .await
}

#[tokio::test]
async fn passing_failures_are_tried_again() {
    for status in [408, 429, 499, 500, 502, 503, 504, 522] {
        let server = serving(move |_, before| {
            if before < 2 {
                with(status, &[], "")
            } else {
                manifest()
            }
        })
        .await;
        let client = client(quick(), Keychain::anonymous());
        client
            .manifest(&reference(&format!("{}/app:v1", server.host())))
            .await
            .unwrap();
        assert_eq!(server.count(MANIFEST), 3, "{status}");
    }
}

#[tokio::test]
async fn a_manifest_that_breaks_off_is_asked_for_again() {
    let server = serving(|_, before| match before {
        0 => broken(200, &[], b"{", 100),
        _ => manifest(),
    })
    .await;
    let client = client(quick(), Keychain::anonymous());
    let name = reference(&format!("{}/app:v1", server.host()));
    client.manifest(&name).await.unwrap();
    assert_eq!(server.count(MANIFEST), 2);
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_where_a_registry_is_expected() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let name = reference(&format!("{address}/app:v1"));
    let mut settings = quick();
    let error = client(settings.clone(), Keychain::anonymous());
    let error = error.manifest(&name).await.unwrap_err();
    let Error::Transport { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        matches!(**source, TransportError::Refused { .. }),
        "{error}"
    );

    settings.retry.after_refusal = AfterRefusal::TryAgain;
    settings.retry.pauses = vec![std::time::Duration::from_millis(10); 10_000];
    let client = client(settings, Keychain::anonymous());
    let start = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        Scripted::start_at(address, |_, _| manifest()).await
    };
    let (found, _server) = tokio::join!(client.manifest(&name), start);
    found.unwrap();
}

#[tokio::test]
async fn what_a_registry_says_does_not_move_the_terminals_cursor() {
    let server = serving(|_, _| {
        with(
            400,
            &[],
            r#"{"errors":[{"code":"X","message":"\u001b]0;title\u0007\u001b[2Jgone"}]}"#,
        )
    })
    .await;
    let client = client(quick(), Keychain::anonymous());
    let name = reference(&format!("{}/app:v1", server.host()));
    let text = client.manifest(&name).await.unwrap_err().to_string();
    assert!(
        text.ends_with(r"X: \u{1b}]0;title\u{7}\u{1b}[2Jgone"),
        "{text}"
    );
}

#[tokio::test]
async fn retry_after_is_obeyed_up_to_a_limit() {
    let server = serving(|_, before| match before {
        0 => with(429, &[("retry-after", "1")], ""),
        _ => manifest(),
    })
    .await;
    let started = std::time::Instant::now();
    let client_of = |settings| client(settings, Keychain::anonymous());
    client_of(quick())
        .manifest(&reference(&format!("{}/app:v1", server.host())))
        .await
        .unwrap();
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));

    let busy = serving(|_, _| {
        with(
            429,
            &[("retry-after", "3600")],
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
        )
    })
    .await;
    let error = client_of(quick())
        .manifest(&reference(&format!("{}/app:v1", busy.host())))
        .await
        .unwrap_err();
    let Error::TooManyRequests {
        retry_after,
        message,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*retry_after, Some(std::time::Duration::from_secs(3600)));
    assert_eq!(message, "TOOMANYREQUESTS: slow down");
    assert_eq!(
        busy.count(MANIFEST),
        1,
        "an hour is not waited for, and not tried again earlier"
    );
}

#[tokio::test]
async fn lasting_failures_are_not_tried_again_and_are_told_apart() {
    let error_of = async |status: u16| {
        let server = serving(move |_, _| with(status, &[], "")).await;
        let name = reference(&format!("{}/app:v1", server.host()));
        let error = client(quick(), Keychain::anonymous())
            .manifest(&name)
            .await
            .unwrap_err();
        (error, server.count(MANIFEST))
    };
    assert!(matches!(error_of(404).await, (Error::NotFound { .. }, 1)));
    assert!(matches!(error_of(403).await, (Error::Denied { .. }, 1)));
    assert!(matches!(
        error_of(401).await,
        (
            Error::Unauthorized {
                credential: None,
                ..
            },
            1
        )
    ));
    assert!(matches!(
        error_of(400).await,
        (Error::Unexpected { status: 400, .. }, 1)
    ));
    assert!(matches!(
        error_of(503).await,
        (Error::Server { status: 503, .. }, 3)
    ));
}

#[tokio::test]
async fn a_refused_connection_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(quick(), Keychain::anonymous());
    let error = client
        .manifest(&reference(&format!("{address}/app")))
        .await
        .unwrap_err();
    let Error::Transport { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        source.to_string(),
        format!("{address} refused the connection")
    );
    assert!(error.hint().unwrap().contains("listens"));
}

#[tokio::test]
async fn http_where_https_is_demanded_is_named() {
    let server = serving(|_, _| manifest()).await;
    let mut settings = Settings::default();
    settings.retry.pauses.clear();
    let name = format!("{}/app", server.host());
    settings.host_mut("registry.example.com").connect_to =
        Some(format!("https://{}", server.host()).parse().unwrap());
    let error = client(settings, Keychain::anonymous())
        .manifest(&reference(&format!(
            "registry.example.com/{}",
            name.split('/').next_back().unwrap()
        )))
        .await
        .unwrap_err();
    let Error::Transport { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**source, TransportError::NotTls { .. }),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("insecure"));
}

/// Serves `content` with a break after `cut` bytes of the first answer; ranges only where `ranges` is set.
async fn breaking(content: Vec<u8>, cut: usize, ranges: bool) -> Scripted {
    serving(move |seen, before| {
        if before == 0 {
            return broken(200, &[], &content[..cut], content.len());
        }
        match seen.header("range").filter(|_| ranges) {
            Some(range) => {
                let start: usize = range
                    .strip_prefix("bytes=")
                    .unwrap()
                    .strip_suffix('-')
                    .unwrap()
                    .parse()
                    .unwrap();
                let end = content.len();
                let header = format!("bytes {start}-{}/{end}", end - 1);
                with(
                    206,
                    &[("content-range", &header)],
                    content[start..].to_vec(),
                )
            }
            None => with(200, &[], content.clone()),
        }
    })
    .await
}

#[tokio::test]
async fn a_broken_blob_is_resumed_where_it_broke() {
    let content = noise(300_000);
    let descriptor = Descriptor::of(MediaType::OciLayer, &content);
    for ranges in [true, false] {
        let server = breaking(content.clone(), 100_000, ranges).await;
        let client = client(quick(), Keychain::anonymous());
        let name = reference(&format!("{}/app", server.host()));
        assert_eq!(
            client
                .blob_bytes(&name, &descriptor, 1 << 20)
                .await
                .unwrap(),
            content,
            "ranges: {ranges}"
        );
        let asked: Vec<_> = server
            .seen()
            .iter()
            .filter_map(|seen| seen.header("range").map(str::to_owned))
            .collect();
        assert_eq!(asked.len(), 1);
        let position: usize = asked[0]
            .strip_prefix("bytes=")
            .unwrap()
            .strip_suffix('-')
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=100_000).contains(&position), "{position}");
    }
}

#[tokio::test]
async fn a_blob_that_always_breaks_ends_in_an_error() {
    let content = noise(1000);
    let descriptor = Descriptor::of(MediaType::OciLayer, &content);
    let server = serving(move |_, _| broken(200, &[], b"", 1000)).await;
    let name = reference(&format!("{}/app", server.host()));
    let error = client(quick(), Keychain::anonymous())
        .blob_bytes(&name, &descriptor, 1000)
        .await
        .unwrap_err();
    let Error::Transport { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**source, TransportError::Broken { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn wrong_content_is_never_accepted() {
    let content = noise(1000);
    let descriptor = Descriptor::of(MediaType::OciLayer, &content);
    let mut other = content.clone();
    other[999] ^= 1;
    let longer = [content.clone(), vec![0]].concat();
    for (sent, digest_differs) in [(other, true), (longer, false)] {
        let server = serving(move |_, _| with(200, &[], sent.clone())).await;
        let name = reference(&format!("{}/app", server.host()));
        let error = client(quick(), Keychain::anonymous())
            .blob_bytes(&name, &descriptor, 2000)
            .await
            .unwrap_err();
        let Error::Content { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(
            matches!(source, Mismatch::Digest { .. }),
            digest_differs,
            "{source}"
        );
    }
    let server = serving(|_, _| manifest()).await;
    let (_, right) = image(&[]);
    let wrong = kiln_registry::Digest::sha256(b"other");
    let name = reference(&format!("{}/app@{wrong}", server.host()));
    let error = client(quick(), Keychain::anonymous())
        .manifest(&name)
        .await
        .unwrap_err();
    let Error::Content { source, .. } = error else {
        panic!("wrong content")
    };
    assert_eq!(
        source,
        Mismatch::Digest {
            expected: wrong,
            actual: right.digest().clone()
        }
    );
}

#[tokio::test]
async fn mirrors_are_asked_in_order_and_once_then_the_origin() {
    let limited = serving(|_, _| with(429, &[], "")).await;
    let sick = serving(|_, _| with(500, &[], "")).await;
    let origin = serving(|_, before| {
        if before == 0 {
            with(503, &[], "")
        } else {
            manifest()
        }
    })
    .await;
    let mut settings = quick();
    settings.host_mut(&origin.host()).mirrors = vec![
        format!("{}/proxy", limited.host()).parse().unwrap(),
        sick.host().parse().unwrap(),
    ];
    let name = reference(&format!("{}/app:v1", origin.host()));
    client(settings.clone(), Keychain::anonymous())
        .manifest(&name)
        .await
        .unwrap();
    assert_eq!(limited.count("GET /v2/proxy/app/manifests/v1"), 1);
    assert_eq!(sick.count(MANIFEST), 1);
    assert_eq!(origin.count(MANIFEST), 2, "the last one is tried again");

    settings.after_mirrors = AfterMirrors::Fail;
    let error = client(settings, Keychain::anonymous())
        .manifest(&name)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Server { status: 500, .. }),
        "{error:?}"
    );
    assert_eq!(origin.count(MANIFEST), 2);
}

#[tokio::test]
async fn a_file_is_taken_from_the_next_mirror_when_one_lies() {
    let content = noise(1000);
    let descriptor = Descriptor::of(MediaType::OciLayer, &content);
    let liar = serving(|_, _| with(200, &[], vec![0_u8; 1000])).await;
    let honest = content.clone();
    let origin = serving(move |_, _| with(200, &[], honest.clone())).await;
    let mut settings = quick();
    settings.host_mut(&origin.host()).mirrors = vec![liar.host().parse().unwrap()];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    let name = reference(&format!("{}/app", origin.host()));
    client(settings, Keychain::anonymous())
        .blob_to_file(&name, &descriptor, &path)
        .await
        .unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(
        liar.count(&format!("GET /v2/app/blobs/{}", descriptor.digest)),
        1
    );
}

#[tokio::test]
async fn all_four_types_are_accepted_and_lists_are_read_to_the_end() {
    let server = serving(|seen, _| match seen.line.as_str() {
        "GET /v2/app/tags/list" => with(
            200,
            &[("link", "</v2/app/tags/list?last=b>; rel=\"next\"")],
            r#"{"name":"app","tags":["a","b"]}"#,
        ),
        "GET /v2/app/tags/list?last=b" => with(200, &[], r#"{"name":"app","tags":["c"]}"#),
        _ => manifest(),
    })
    .await;
    let client = client(quick(), Keychain::anonymous());
    let name = reference(&format!("{}/app:v1", server.host()));
    client.manifest(&name).await.unwrap();
    let seen = server
        .seen()
        .into_iter()
        .find(|seen| seen.line == MANIFEST)
        .unwrap();
    let accept = seen.header("accept").unwrap();
    for kind in [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ] {
        assert!(accept.contains(kind), "{accept}");
    }
    assert_eq!(client.tags(&name).await.unwrap(), ["a", "b", "c"]);
}
