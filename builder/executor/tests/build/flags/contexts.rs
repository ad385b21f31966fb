//! Where a context may be.

use std::fs;
use std::process::Command;

use kiln_registry::ServiceRequest;
use kiln_registry::credential::cloud::{AwsKey, Payload, Signing, sign};

use super::hub::{Hub, archive};
use super::web::{Reply, Request, Web, reply};

/// Builds from a context elsewhere, and looks at what came.
#[track_caller]
fn built(hub: &Hub, flags: &[&str], env: &[(&str, &str)]) {
    let (image, trust) = (hub.image("app:v1"), hub.trust());
    let args: Vec<&str> = ["-d", &image, &trust]
        .into_iter()
        .chain(flags.iter().copied())
        .collect();
    hub.executor(&args, env).good();
    assert_eq!(
        hub.files("app:v1"),
        [("file".to_owned(), "content".to_owned())]
    );
}

#[test]
fn directories_in_all_spellings() {
    let hub = Hub::start();
    let context = hub.simple().display().to_string();
    built(&hub, &["--context", &format!("dir://{context}/")], &[]);
    built(&hub, &["-c", &format!("dir:/{context}")], &[]);
    let parent = hub.text("");
    built(
        &hub,
        &[
            "-c",
            parent.trim_end_matches('/'),
            "--context-sub-path=simple",
        ],
        &[],
    );
    let dockerfile = format!("{context}/Dockerfile");
    fs::rename(hub.path("simple/Dockerfile"), hub.path("elsewhere")).unwrap();
    hub.build(&hub.path("simple"), "app:v2", &[])
        .fails(&dockerfile);
    built(&hub, &["-c", &context, "-f", "elsewhere"], &[]);
}

#[test]
fn archives_as_a_file_and_on_standard_input() {
    let hub = Hub::start();
    let bytes = archive(&hub.simple());
    fs::write(hub.path("context.tar.gz"), &bytes).unwrap();
    built(
        &hub,
        &["-c", &format!("tar://{}", hub.text("context.tar.gz"))],
        &[],
    );
    let (image, trust) = (hub.image("app:v2"), hub.trust());
    let args = ["-c", "tar://stdin", "-d", &image, &trust];
    hub.program(env!("CARGO_BIN_EXE_executor"), &args, &[], &bytes)
        .good();
    assert_eq!(
        hub.files("app:v2"),
        [("file".to_owned(), "content".to_owned())]
    );
    fs::write(hub.path("broken.tar.gz"), &bytes[..bytes.len() / 2]).unwrap();
    hub.executor(
        &[
            "-c",
            &format!("tar://{}", hub.text("broken.tar.gz")),
            "-d",
            &image,
            &trust,
        ],
        &[],
    )
    .fails("cannot fetch the context from tar://");
}

/// A context is no layer: there is nothing that such a name could hide.
#[test]
fn names_of_whiteouts_hide_nothing_in_a_context() {
    let hub = Hub::start();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", hub.simple()).unwrap();
    for name in [".wh.file", ".wh.Dockerfile", ".wh..wh..opq"] {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&fs::metadata(hub.simple().join("file")).unwrap());
        header.set_size(0);
        tar.append_data(&mut header, name, &b""[..]).unwrap();
    }
    fs::write(hub.path("context.tar"), tar.into_inner().unwrap()).unwrap();
    let place = format!("tar://{}", hub.text("context.tar"));
    built(&hub, &["-c", &place], &[]);
}

#[test]
fn an_archive_of_the_web_and_a_dockerfile_of_the_web() {
    let hub = Hub::start();
    let bytes = archive(&hub.simple());
    let web = Web::start(move |request: &Request| match request.target.as_str() {
        "/context.tar.gz" => reply(200, bytes.clone()),
        "/moved" => reply(302, "").with("location", "/context.tar.gz"),
        "/Dockerfile" => reply(200, "FROM scratch\nCOPY file /file\nLABEL from=web\n"),
        _ => reply(404, "nothing here"),
    });
    built(&hub, &["-c", &web.url("/moved")], &[]);
    built(
        &hub,
        &[
            "-c",
            &web.url("/context.tar.gz"),
            "-f",
            &web.url("/Dockerfile"),
        ],
        &[],
    );
    assert_eq!(hub.config("app:v1")["config"]["Labels"]["from"], "web");
    let (image, trust) = (hub.image("app:v2"), hub.trust());
    hub.executor(&["-c", &web.url("/none"), "-d", &image, &trust], &[])
        .fails("status 404: nothing here");
}

#[test]
fn a_repository_of_git() {
    let hub = Hub::start();
    let source = hub.simple();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .current_dir(&source)
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "a")
                .env(format!("GIT_{who}_EMAIL"), "a@example.com");
        }
        assert!(command.status().unwrap().success(), "{arguments:?}");
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    git(&["checkout", "--quiet", "-b", "other"]);
    fs::write(source.join("file"), "another").unwrap();
    git(&["commit", "--quiet", "-a", "-m", "two"]);
    git(&["update-server-info"]);
    // Files are all that git's older protocol needs; they are for one user.
    let root = source.join(".git");
    let web = Web::start(move |request: &Request| {
        // printf token: | base64
        if request.header("authorization") != Some("Basic dG9rZW46") {
            return reply(401, "").with("www-authenticate", "Basic realm=git");
        }
        let path = request
            .target
            .split('?')
            .next()
            .unwrap()
            .trim_start_matches("/team/app.git/");
        fs::read(root.join(path)).map_or_else(|_| reply(404, ""), |bytes| reply(200, bytes))
    });
    let context = format!("git://{}/team/app.git", web.address);
    let env = [("GIT_PULL_METHOD", "http"), ("GIT_TOKEN", "token")];
    built(&hub, &["-c", &format!("{context}#refs/heads/main")], &env);
    built(&hub, &["-c", &context, "--git=branch=main,depth=1"], &env);
    let (image, trust) = (hub.image("app:v2"), hub.trust());
    let args = [
        "-c",
        &format!("{context}#refs/heads/other"),
        "-d",
        &image,
        &trust,
    ];
    hub.executor(&args, &env).good();
    assert_eq!(
        hub.files("app:v2"),
        [("file".to_owned(), "another".to_owned())]
    );
    hub.executor(
        &["-c", &context, "-d", &image, &trust, "--git=branches=x"],
        &env,
    )
    .fails("recurse-submodules=");
    hub.executor(
        &["-c", &context, "-d", &image, &trust],
        &[("GIT_PULL_METHOD", "http")],
    )
    .fails("git fetch of");
}

/// Whether a request is signed as these keys would do it: the reference is our own code, which is held against
/// published examples where it stands.
fn is_signed(request: &Request, key: &AwsKey, region: &str) -> bool {
    let Some(date) = request.header("x-amz-date") else {
        return false;
    };
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..8],
        &date[9..11],
        &date[11..13],
        &date[13..15]
    );
    let time: jiff::Timestamp = text.parse().unwrap();
    let url = format!(
        "http://{}{}",
        request.header("host").unwrap(),
        request.target
    );
    let mut again = ServiceRequest::new(http::Method::GET, url.parse().unwrap());
    let signing = Signing {
        region,
        service: "s3",
        time: u64::try_from(time.as_second()).unwrap(),
    };
    sign(&mut again, key, &signing, Payload::BodyInHeader);
    request.header("authorization") == again.headers["authorization"].to_str().ok()
}

#[test]
fn an_object_of_s3() {
    let hub = Hub::start();
    let bytes = archive(&hub.simple());
    let web = Web::start(move |request: &Request| {
        let key = AwsKey {
            id: "id".to_owned(),
            secret: "secret".to_owned(),
            session: None,
        };
        match request.target.as_str() {
            _ if !is_signed(request, &key, "eu-central-1") => reply(403, "SignatureDoesNotMatch"),
            "/bucket/path/to/context.tar.gz" | "/bucket/context.tar.gz" => {
                reply(200, bytes.clone())
            }
            _ => reply(404, "NoSuchKey"),
        }
    });
    let endpoint = web.url("");
    let env = |secret: &'static str| {
        [
            ("S3_ENDPOINT", endpoint.as_str()),
            ("S3_FORCE_PATH_STYLE", "true"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", "eu-central-1"),
        ]
    };
    built(
        &hub,
        &["-c", "s3://bucket/path/to/context.tar.gz"],
        &env("secret"),
    );
    built(&hub, &["--bucket=s3://bucket"], &env("secret"));
    let (image, trust) = (hub.image("app:v2"), hub.trust());
    let args = [
        "-c",
        "s3://bucket/path/to/context.tar.gz",
        "-d",
        &image,
        &trust,
    ];
    hub.executor(&args, &env("wrong"))
        .fails("SignatureDoesNotMatch");
}

#[test]
fn an_object_of_google_cloud_storage() {
    let hub = Hub::start();
    let bytes = archive(&hub.simple());
    let web = Web::start(move |request: &Request| google(request, &bytes));
    let host = web.address.to_string();
    let env = [
        ("STORAGE_EMULATOR_HOST", host.as_str()),
        ("GCE_METADATA_HOST", host.as_str()),
    ];
    built(&hub, &["-c", "gs://box/path/to/context.tar.gz"], &env);
    built(&hub, &["--bucket=box"], &env);
}

/// A metadata server and a bucket in one.
fn google(request: &Request, bytes: &[u8]) -> Reply {
    if request.target.starts_with("/computeMetadata/") {
        assert_eq!(request.header("metadata-flavor"), Some("Google"));
        return reply(
            200,
            r#"{"access_token": "t", "expires_in": 3599, "token_type": "Bearer"}"#,
        );
    }
    if request.header("authorization") != Some("Bearer t") {
        return reply(401, "who are you");
    }
    match request.target.as_str() {
        "/storage/v1/b/box/o/path%2Fto%2Fcontext.tar.gz?alt=media"
        | "/storage/v1/b/box/o/context.tar.gz?alt=media" => reply(200, bytes),
        _ => reply(404, "no such object"),
    }
}

#[test]
fn two_places_are_one_too_many_and_unknown_ones_are_named() {
    let hub = Hub::start();
    let context = hub.simple().display().to_string();
    let (image, trust) = (hub.image("app:v1"), hub.trust());
    hub.executor(&["-c", &context, "--bucket=b", "-d", &image, &trust], &[])
        .fails("give one of the two");
    hub.executor(&["-c", "ftp://host/x", "-d", &image, &trust], &[])
        .fails("contexts from ftp:// are not known");
    hub.executor(&["-c", "/nowhere", "-d", &image, &trust], &[])
        .fails("cannot read the context /nowhere");
}
