//! Dockerfiles that people run today, from published articles, with stand-ins for base images.

use std::fs;

use crate::world::World;

/// "kaniko beside docker" (2019).
#[test]
fn two_stages_of_which_one_file_is_copied() {
    let Some(world) = World::new() else { return };
    let context = world.context("article");
    world.dockerfile(
        &context,
        "FROM BASE AS build\nRUN echo \"hello\" > /result.txt\nRUN cat /result.txt\nFROM BASE\nCOPY --from=build /result.txt /\n",
    );
    let log = world.build(&context, "article:1", &[]);
    assert!(
        log.contains("[build 3/3] RUN cat /result.txt\n[build 3/3]   hello\n"),
        "{log}"
    );
    assert_eq!(world.tree("article:1")["result.txt"].text(), "hello\n");
    assert_eq!(
        world.own_layers("article:1"),
        1,
        "stages that are only copied from add no layer"
    );
    assert_eq!(
        world.layer("article:1", -1).keys().collect::<Vec<_>>(),
        ["result.txt"]
    );
}

#[test]
fn three_separate_commands_and_one_merged() {
    let Some(world) = World::new() else { return };
    let context = world.context("echo");
    world.dockerfile(
        &context,
        "FROM BASE\nRUN echo command1\nRUN echo command2\nRUN echo command3\n",
    );
    world.build(&context, "echo:1", &[]);
    assert_eq!(
        world.own_layers("echo:1"),
        0,
        "nothing changed, so there is no layer"
    );
    let history = world.config("echo:1")["history"]
        .as_array()
        .unwrap()
        .clone();
    let last = history.last().unwrap();
    assert_eq!(last["created_by"], "RUN /bin/sh -c echo command3");
    assert_eq!(last["empty_layer"], true);
}

/// "skaffold, kaniko and language caches" (2021): the Dockerfile as printed but for the names of
/// the images.
const FEED_AGG: &str = "FROM BASE AS build
ARG CGO_ENABLED=0
ARG GOPROXY=https://goproxy.example,direct
ARG GOMODCACHE=/go/pkg/mod
ARG GOCACHE=/root/.cache/go-build
WORKDIR /workspace
COPY . .
RUN mkdir -p $GOMODCACHE $GOCACHE && go build -trimpath -ldflags='-s -w' -o /bin/feed-agg

FROM BASE
COPY conf.yaml /etc/feed-agg/conf.yaml
COPY --from=build /bin/feed-agg /bin/feed-agg
ENTRYPOINT [\"/bin/feed-agg\"]
";

#[test]
fn a_go_service_reproducibly_in_one_layer() {
    let Some(world) = World::new() else { return };
    let context = world.context("feed-agg");
    world.dockerfile(&context, FEED_AGG);
    fs::write(context.join("main.go"), "package main\n").unwrap();
    fs::write(context.join("conf.yaml"), "feeds: []\n").unwrap();
    let flags = [
        "--reproducible",
        "--single-snapshot",
        "--skip-unused-stages",
        "--use-new-run",
        "--whitelist-var-run",
        "--build-arg=GOPROXY=http://athens.athens.svc.cluster.local",
    ];
    world.build(&context, "feed-agg:1", &flags);
    let tree = world.tree("feed-agg:1");
    assert_eq!(tree["bin/feed-agg"].text(), "package main\n");
    assert_eq!(tree["bin/feed-agg"].mode, 0o755);
    assert_eq!(tree["etc/feed-agg/conf.yaml"].text(), "feeds: []\n");
    assert_eq!(world.own_layers("feed-agg:1"), 1);
    let config = world.config("feed-agg:1");
    assert_eq!(config["config"]["Entrypoint"][0], "/bin/feed-agg");
    assert_eq!(
        config["config"].get("Cmd"),
        None,
        "the base's CMD is not for this entry point"
    );
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    // Another time, another store, the same bytes.
    fs::remove_dir_all(world.store()).unwrap();
    world.build(&context, "feed-agg:2", &flags);
    assert_eq!(world.digest("feed-agg:1"), world.digest("feed-agg:2"));
}

/// "GitLab, Node, pipeline cache through the context" (2023), as printed but for the names of the
/// images.
const GITLAB: &str = "FROM BASE as dependencies
ARG CI_PROJECT_DIR
WORKDIR $CI_PROJECT_DIR
RUN yarn install --frozen-lockfile --prefer-offline --cache-folder .yarn

FROM BASE as builder
ARG CI_PROJECT_DIR
WORKDIR /builder
COPY --from=dependencies $CI_PROJECT_DIR/node_modules ./node_modules
COPY --from=dependencies $CI_PROJECT_DIR/.yarn ./.yarn
COPY . .
RUN yarn install --frozen-lockfile --prefer-offline --cache-folder .yarn
RUN yarn build
RUN yarn install --frozen-lockfile --production --prefer-offline --cache-folder .yarn

FROM BASE
ARG UID=12345
ARG GID=23456
ENV UID=${UID}
ENV GID=${GID}
ENV USER=docker
ENV GROUP=docker
ENV WORKDIR=/srv/http/www/backend
USER root
RUN apk add --no-cache shadow sudo && \\
    if [ -z \"`getent group $GID`\" ]; then \\
      addgroup -S -g $GID $GROUP; \\
    else \\
      groupmod -n $GROUP `getent group $GID | cut -d: -f1`; \\
    fi && \\
    if [ -z \"`getent passwd $UID`\" ]; then \\
      adduser -S -u $UID -G $GROUP -s /bin/sh $USER; \\
    else \\
      usermod -l $USER -g $GID -d /home/$USER -m `getent passwd $UID | cut -d: -f1`; \\
    fi
COPY --from=builder /builder/docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
RUN chmod +x /usr/local/bin/docker-entrypoint.sh
WORKDIR $WORKDIR
RUN chown -R $USER:$GROUP $WORKDIR
USER $USER
COPY --chown=$USER:$GROUP --from=builder /builder/node_modules ./node_modules
COPY --chown=$USER:$GROUP --from=builder /builder/build .
RUN yarn install --frozen-lockfile --production --prefer-offline
HEALTHCHECK CMD wget --no-verbose --tries=1 --spider http://localhost:8080/probe || exit 1
EXPOSE 8080
ENTRYPOINT [\"docker-entrypoint.sh\"]
CMD [\"yarn\", \"start:server\"]
";

#[test]
fn a_pipeline_cache_in_the_checkout() {
    let Some(world) = World::new() else { return };
    let context = world.context("project");
    world.dockerfile(&context, GITLAB);
    fs::write(context.join("server.js"), "serve()\n").unwrap();
    fs::write(
        context.join("docker-entrypoint.sh"),
        "#!/bin/sh\nexec \"$@\"\n",
    )
    .unwrap();
    fs::write(context.join(".dockerignore"), "node_modules\n.yarn\n").unwrap();
    fs::create_dir(context.join("node_modules")).unwrap();
    fs::write(context.join("node_modules/log"), "restored\n").unwrap();
    let dir = context.display().to_string();
    let arg = format!("--build-arg=CI_PROJECT_DIR={dir}");
    let second = format!("--destination={}", world.image("backend:sha"));
    let label = "--label=vcs-url=https://gitlab.example/p";
    world.build(
        &context,
        "backend:main",
        &[&arg, &second, label, "--cache=true", "--snapshot-mode=redo"],
    );

    assert_eq!(world.digest("backend:main"), world.digest("backend:sha"));
    let tree = world.tree("backend:main");
    let log = &tree["srv/http/www/backend/node_modules/log"];
    // Restored by the pipeline, then installed once per stage step that ran.
    assert_eq!(
        log.text(),
        "restored\ninstalled\ninstalled\ninstalled\ninstalled\n"
    );
    assert_eq!(log.owner, (12345, 23456));
    assert_eq!(tree["srv/http/www/backend/server.js"].owner, (12345, 23456));
    assert_eq!(
        tree["usr/local/bin/docker-entrypoint.sh"].mode & 0o111,
        0o111
    );
    let leaked: Vec<_> = tree
        .keys()
        .filter(|path| path.contains("project"))
        .collect();
    assert!(
        leaked.is_empty(),
        "nothing of the checkout is in the image: {leaked:?}"
    );
    let restored = fs::read_to_string(context.join("node_modules/log")).unwrap();
    assert_eq!(restored, "restored\n", "the checkout is untouched");
    let config = world.config("backend:main");
    assert_eq!(config["config"]["User"], "docker");
    assert_eq!(
        config["config"]["Labels"]["vcs-url"],
        "https://gitlab.example/p"
    );
    assert_eq!(
        config["config"]["ExposedPorts"],
        serde_json::json!({"8080/tcp": {}})
    );
    assert_eq!(config["config"]["Healthcheck"]["Test"][0], "CMD-SHELL");
    assert_eq!(config["config"]["WorkingDir"], "/srv/http/www/backend");
}

#[test]
fn a_context_whose_path_the_image_uses_itself() {
    let Some(world) = World::new() else { return };
    let context = world.context("workspace");
    let dir = context.display();
    world.dockerfile(
        &context,
        &format!("FROM BASE\nWORKDIR {dir}\nCOPY . .\nRUN echo made > result\n"),
    );
    fs::write(context.join("a"), "a\n").unwrap();
    world.build(&context, "workspace:1", &[]);
    let below = context.display().to_string();
    let tree = world.tree("workspace:1");
    let below = below.trim_start_matches('/');
    assert_eq!(
        tree[&format!("{below}/result")].text(),
        "made\n",
        "as in Docker"
    );
    assert!(
        !context.join("result").exists(),
        "the checkout is untouched"
    );
}

/// The tutorial's Dockerfile and its destination without a tag.
#[test]
fn a_destination_without_a_tag_is_latest() {
    let Some(world) = World::new() else { return };
    let context = world.context("tutorial");
    fs::write(
        context.join("dockerfile"),
        format!(
            "FROM {}\nENTRYPOINT [\"/bin/bash\", \"-c\", \"echo hello\"]\n",
            world.image("base:1")
        ),
    )
    .unwrap();
    let store = world.store();
    let destination = format!("--destination={}", world.image("user/repo"));
    let digest_file = context.join("out/digest");
    let output = world.executor(&[
        &format!("--dockerfile={}", context.join("dockerfile").display()),
        &format!("--context=dir://{}", context.display()),
        &destination,
        &format!("--store-dir={}", store.display()),
        &format!("--digest-file={}", digest_file.display()),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        fs::read_to_string(digest_file).unwrap(),
        world.digest("user/repo:latest")
    );
    assert_eq!(world.own_layers("user/repo:latest"), 0);
}

#[test]
fn a_base_is_neither_unpacked_nor_downloaded_for_metadata_alone() {
    let Some(world) = World::new() else { return };
    let context = world.context("meta");
    world.dockerfile(&context, "FROM BASE\nENV A=1\nLABEL b=2\n");
    fs::remove_dir_all(world.store()).unwrap();
    world.build(&context, "other/meta:1", &[]);
    for kind in ["layers", "indexes"] {
        assert_eq!(
            fs::read_dir(world.store().join(kind)).unwrap().count(),
            0,
            "{kind}"
        );
    }
    let blobs = fs::read_dir(world.store().join("blobs/sha256"))
        .unwrap()
        .count();
    assert_eq!(
        blobs, 0,
        "the layers were mounted from the other repository"
    );
}

/// BuildKit's names and rules: <https://docs.docker.com/reference/build-checks/>.
#[test]
fn remarks_on_the_dockerfile_are_in_the_log() {
    let Some(world) = World::new() else { return };
    let context = world.context("remarks");
    let text = "FROM BASE as one\nENV A b\nFROM one\nLABEL a=$PATH b=$NAME\nMAINTAINER me\n";
    world.dockerfile(&context, text);
    let log = world.build(&context, "remarks:1", &[]);
    for (rule, line) in [
        ("FromAsCasing", 1),
        ("LegacyKeyValueFormat", 2),
        ("UndefinedVar", 4),
        ("MaintainerDeprecated", 5),
    ] {
        let is_named = log.lines().any(|text| {
            text.starts_with(&format!("warning: {rule}: "))
                && text.ends_with(&format!("(line {line})"))
        });
        assert!(is_named, "{rule}: {log}");
    }
    assert_eq!(log.matches("warning:").count(), 4, "{log}");
    world.dockerfile(&context, &format!("# check=error=true\n{text}"));
    let output = world.try_build(&context, "remarks:2", &[]);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("error: Dockerfile: `# check=error=true`"),
        "{log}"
    );
    world.dockerfile(&context, &format!("# check=skip=all;error=true\n{text}"));
    assert!(!world.build(&context, "remarks:3", &[]).contains("warning:"));
}

/// What people pass to kaniko on every build needs no remark on every build.
#[test]
fn flags_without_effect_are_named_where_it_matters() {
    let Some(world) = World::new() else { return };
    let context = world.context("flags");
    world.dockerfile(&context, "FROM scratch\nCOPY Dockerfile /\n");
    let flags = ["--use-new-run", "--snapshot-mode=redo", "--cleanup"];
    let log = world.build(&context, "flags:1", &flags);
    assert!(!log.contains("has no effect"), "{log}");
    let log = world.build(
        &context,
        "flags:2",
        &[&flags[..], &["-v", "debug"]].concat(),
    );
    for flag in ["--use-new-run", "--snapshot-mode", "--cleanup"] {
        assert!(
            log.contains(&format!("{flag} has no effect here: ")),
            "{log}"
        );
    }
}
