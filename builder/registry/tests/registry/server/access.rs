//! Who may do what.

use kiln_registry::server::{
    Access, Anonymous, Password, Protection, Registry, Rights, Scheme, Serving, User,
};
use reqwest::StatusCode;

use super::{header, http, serve};

const BCRYPT: &str = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

fn users() -> Vec<User> {
    vec![
        User {
            name: "builder".to_owned(),
            // bcrypt of `secret`, made with libxcrypt.
            password: Password::Bcrypt(BCRYPT.to_owned()),
            rights: Rights::All,
        },
        User {
            name: "puller".to_owned(),
            password: Password::Plain("secret".to_owned()),
            rights: Rights::Pull,
        },
    ]
}

async fn protected(scheme: Scheme, anonymous: Anonymous) -> (tempfile::TempDir, Serving) {
    let folder = tempfile::tempdir().unwrap();
    let access = Access::Protected(Protection {
        scheme,
        users: users(),
        anonymous,
    });
    let registry = Registry::open(folder.path(), access).unwrap();
    let serving = serve(&registry, None).await;
    (folder, serving)
}

#[tokio::test]
async fn a_password_with_each_request() {
    let (_folder, serving) = protected(Scheme::Basic, Anonymous::Nothing).await;
    let url = |path: &str| format!("http://{}{path}", serving.address());
    let start = url("/v2/app/blobs/uploads/");
    let http = http();
    let refused = http.get(url("/v2/")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(header(&refused, "www-authenticate").starts_with("Basic realm="));
    for (user, password, expected) in [
        ("builder", "secret", StatusCode::ACCEPTED),
        ("builder", "wrong", StatusCode::UNAUTHORIZED),
        ("puller", "secret", StatusCode::FORBIDDEN),
        ("nobody", "secret", StatusCode::UNAUTHORIZED),
    ] {
        let request = http.post(&start).basic_auth(user, Some(password));
        assert_eq!(request.send().await.unwrap().status(), expected, "{user}");
    }
    let request = http.get(url("/v2/")).basic_auth("puller", Some("secret"));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_token_holds_for_what_it_was_asked_for() {
    let (_folder, serving) = protected(Scheme::Token, Anonymous::Nothing).await;
    let url = |path: &str| format!("http://{}{path}", serving.address());
    let http = http();
    let start = url("/v2/app/blobs/uploads/");
    let refused = http.post(&start).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let challenge = header(&refused, "www-authenticate").to_owned();
    let realm = url("/token");
    assert_eq!(
        challenge,
        format!(
            "Bearer realm=\"{realm}\",service=\"kiln-registry\",scope=\"repository:app:pull,push\""
        )
    );
    let token = async |user: &str, scope: &str| -> String {
        let request = http
            .get(format!("{realm}?service=kiln-registry&scope={scope}"))
            .basic_auth(user, Some("secret"));
        super::body(request.send().await.unwrap()).await["token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let post = async |token: &str| http.post(&start).bearer_auth(token).send().await.unwrap();
    let good = token("builder", "repository:app:pull,push").await;
    assert_eq!(post(&good).await.status(), StatusCode::ACCEPTED);
    for (user, scope) in [
        ("builder", "repository:app:pull"),
        ("builder", "repository:other:pull,push"),
        ("puller", "repository:app:pull,push"),
    ] {
        let answer = post(&token(user, scope).await).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{user} {scope}");
        let challenge = header(&answer, "www-authenticate");
        assert!(
            challenge.contains("error=\"insufficient_scope\""),
            "{challenge}"
        );
    }
    let forged = format!("{}x", good.split_once('.').unwrap().0);
    let answer = post(&format!("{forged}.{}", good.split_once('.').unwrap().1)).await;
    assert!(header(&answer, "www-authenticate").contains("error=\"invalid_token\""));
    let wrong = http
        .get(&realm)
        .basic_auth("builder", Some("wrong"))
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn strangers_may_pull_where_that_is_allowed() {
    for scheme in [Scheme::Basic, Scheme::Token] {
        let (_folder, serving) = protected(scheme, Anonymous::Pull).await;
        let url = |path: &str| format!("http://{}{path}", serving.address());
        let http = http();
        let pull = http.get(url("/v2/app/tags/list")).send().await.unwrap();
        assert_eq!(pull.status(), StatusCode::NOT_FOUND, "{scheme:?}");
        let push = http
            .post(url("/v2/app/blobs/uploads/"))
            .send()
            .await
            .unwrap();
        assert_eq!(push.status(), StatusCode::UNAUTHORIZED, "{scheme:?}");
        let list = http.get(url("/v2/_catalog")).send().await.unwrap();
        assert_eq!(list.status(), StatusCode::UNAUTHORIZED, "{scheme:?}");
    }
}

#[tokio::test]
async fn a_mount_needs_to_read_its_source() {
    let (_folder, serving) = protected(Scheme::Token, Anonymous::Nothing).await;
    let path = "/v2/app/blobs/uploads/?mount=sha256:x&from=base";
    let url = format!("http://{}{path}", serving.address());
    let refused = http().post(url).send().await.unwrap();
    let challenge = header(&refused, "www-authenticate");
    assert!(
        challenge.contains("scope=\"repository:app:pull,push repository:base:pull\""),
        "{challenge}"
    );
}

#[test]
fn users_come_from_htpasswd() {
    let text = format!("# team\nbuilder:{BCRYPT}\n\n");
    let users = User::from_htpasswd(&text).unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!(
        (users[0].name.as_str(), users[0].rights),
        ("builder", Rights::All)
    );
    let error = User::from_htpasswd("a:b\nc").unwrap_err().to_string();
    assert!(
        error.contains("`a`") && error.contains("htpasswd -B"),
        "{error}"
    );
    assert!(
        User::from_htpasswd("nothing")
            .unwrap_err()
            .to_string()
            .contains("line 1")
    );
}
