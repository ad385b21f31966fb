//! RUN: what a command sees, what it leaves, how it fails.

use std::fs;

use crate::world::World;

#[test]
fn the_exit_code_and_the_line_of_a_command_that_fails() {
    let Some(world) = World::new() else { return };
    let context = world.context("fails");
    world.dockerfile(
        &context,
        "FROM BASE\n\nRUN echo about to fail >&2 && exit 37\n",
    );
    let output = world.try_build(&context, "fails:1", &[]);
    assert_eq!(output.status.code(), Some(37));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("[0 2/2]   about to fail\n"), "{log}");
    let error = log
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap();
    assert!(
        error.starts_with("error: Dockerfile:3: RUN echo about"),
        "{error}"
    );
    assert!(
        error.ends_with("the command ended with exit code 37"),
        "{error}"
    );
    // Why a build fails is not left out.
    let output = world.try_build(&context, "fails:1", &["--verbosity=error"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.starts_with("[0 2/2]   about to fail\nerror: "), "{log}");
}

#[test]
fn what_is_removed_is_gone_and_nothing_else_is_in_the_layer() {
    let Some(world) = World::new() else { return };
    let context = world.context("removed");
    world.dockerfile(
        &context,
        "FROM BASE\nRUN mkdir /d && echo a > /d/a && echo b > /d/b && ln /d/a /d/hard\nRUN rm /d/a && rm -r /var/log && mkdir /var/log && echo n > /var/log/new\n",
    );
    world.build(&context, "removed:1", &[]);
    let layer = world.layer("removed:1", -1);
    let names: Vec<&str> = layer.keys().map(String::as_str).collect();
    assert_eq!(names, ["d", "d/.wh.a", "var", "var/log", "var/log/new"]);
    let tree = world.tree("removed:1");
    assert!(!tree.contains_key("d/a"));
    assert!(tree.contains_key("d/hard"));
    let first = world.layer("removed:1", -2);
    assert_eq!(
        (first["d/hard"].kind, first["d/hard"].link.as_str()),
        ('h', "d/a")
    );
}

#[test]
fn users_environment_shell_and_arguments() {
    let Some(world) = World::new() else { return };
    let context = world.context("env");
    world.dockerfile(
        &context,
        "FROM BASE\nARG ONE=1\nENV TWO=2\nRUN echo $ONE $TWO $HOME $HTTP_PROXY > /root-env\n\
         RUN adduser -D -u 1234 app && mkdir /w && chown app /w\nUSER app\nWORKDIR /w\n\
         SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN false; echo not reached > x || true\n",
    );
    let output = world.try_build(
        &context,
        "env:1",
        &["--build-arg=ONE=one", "--build-arg=HTTP_PROXY=http://p"],
    );
    assert_eq!(
        output.status.code(),
        Some(1),
        "the SHELL with -e stops at false"
    );
    world.dockerfile(
        &context,
        "FROM BASE\nARG ONE=1\nENV TWO=2\nRUN echo $ONE $TWO $HOME $HTTP_PROXY > /root-env\n\
         RUN adduser -D -u 1234 app && mkdir /w && chown app /w\nUSER app\nWORKDIR /w\n\
         RUN echo $(id -u) $(pwd) $HOME > who\n\
         RUN <<EOF\necho first > heredoc\necho second >> heredoc\nEOF\n",
    );
    world.build(
        &context,
        "env:1",
        &["--build-arg=ONE=one", "--build-arg=HTTP_PROXY=http://p"],
    );
    let tree = world.tree("env:1");
    assert_eq!(tree["root-env"].text(), "one 2 /root http://p\n");
    assert_eq!(tree["w/who"].text(), "1234 /w /home/app\n");
    assert_eq!(tree["w/who"].owner.0, 1234);
    assert_eq!(tree["w/heredoc"].text(), "first\nsecond\n");
    let config = world.config("env:1").to_string();
    assert!(
        !config.contains("http://p"),
        "proxies are not part of the image"
    );
}

#[test]
fn mounts_of_a_run_are_there_and_leave_no_trace() {
    let Some(world) = World::new() else { return };
    let context = world.context("mounts");
    fs::write(context.join("input"), "from the context\n").unwrap();
    fs::write(context.join("token"), "s3cret").unwrap();
    world.dockerfile(
        &context,
        "FROM BASE AS other\nRUN echo from a stage > /made\n\
         FROM BASE\n\
         RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/scratch \
             --mount=type=bind,target=/src --mount=type=bind,from=other,source=/made,target=/made \
             --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \
             cat /src/input /made > /out && cat /run/secrets/token >> /out && echo $TOKEN >> /out && \
             echo x >> /cache/count && wc -l < /cache/count >> /out && touch /scratch/x && ! touch /src/x\n",
    );
    let secret = format!("--secret=id=token,src={}", context.join("token").display());
    for (tag, count) in [("mounts:1", "1"), ("mounts:2", "2")] {
        let log = world.build(&context, tag, &[&secret, "--cache=false"]);
        assert!(!log.contains("s3cret"), "{log}");
        let tree = world.tree(tag);
        let expected = format!("from the context\nfrom a stage\ns3crets3cret\n{count}\n");
        assert_eq!(tree["out"].text(), expected);
        let layer = world.layer(tag, -1);
        assert_eq!(
            layer.keys().collect::<Vec<_>>(),
            ["out"],
            "no mount point, no content"
        );
    }
}

#[test]
fn a_stage_that_nothing_needs_never_runs() {
    let Some(world) = World::new() else { return };
    let context = world.context("unneeded");
    world.dockerfile(&context, "FROM BASE AS broken\nRUN exit 1\nFROM BASE AS good\nRUN echo ok > /ok\nFROM BASE AS last\nRUN exit 2\n");
    let log = world.build(&context, "unneeded:1", &["--target=GOOD"]);
    assert!(log.contains("2 stages are not needed\n"), "{log}");
    assert_eq!(world.tree("unneeded:1")["ok"].text(), "ok\n");
    let output = world.try_build(&context, "unneeded:2", &["--target=goood"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("--target goood: there is no such stage, there are broken, good, last"),
        "{log}"
    );
}

#[test]
fn what_cannot_be_done_is_named_with_its_line() {
    let Some(world) = World::new() else { return };
    let context = world.context("refused");
    for (line, expected) in [
        (
            "RUN --security=insecure true",
            "Dockerfile:2: RUN --security=insecure is not supported",
        ),
        (
            "RUN --mount=type=ssh,required true",
            "the agent default is required and was not given: add --ssh default",
        ),
        (
            "COPY https://example.com/x.git /x",
            "COPY https://example.com/x.git is not supported: ADD fetches",
        ),
        ("COPY missing /x", "missing is not in the context"),
        (
            "COPY --from=9 a /x",
            "there is no stage 9; the file has 1, counted from 0",
        ),
        (
            "COPY --chown=nobody Dockerfile /x",
            "user nobody is not in /etc/passwd of the image",
        ),
        (
            "RUN --mount=type=secret,id=t,required true",
            "the secret t is required and was not given",
        ),
    ] {
        world.dockerfile(&context, &format!("FROM BASE\n{line}\n"));
        let output = world.try_build(&context, "refused:1", &[]);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains(expected), "{line}: {log}");
        assert!(log.contains("error: Dockerfile:2: "), "{line}: {log}");
    }
}

/// Language caches on volumes below /var/run, which is a link to /run in the image.
#[test]
fn volumes_of_a_pod_are_seen_and_never_become_part_of_the_image() {
    let Some(world) = World::new() else { return };
    let (context, cache) = (world.context("pod"), world.context("volume"));
    world.dockerfile(
        &context,
        "FROM BASE AS build\nRUN echo object >> /var/run/cache-of-a-test/objects && cat /var/run/secrets/kubernetes.io/token > /seen 2>&1 || true\n\
         FROM BASE\nCOPY --from=build /var/run/cache-of-a-test/objects /copied\nCOPY --from=build /seen /seen\n\
         RUN cat /var/run/cache-of-a-test/objects > /again\n",
    );
    let mounts = format!(
        "mkdir -p /run/cache-of-a-test /run/secrets/kubernetes.io\n\
         mount --bind {} /run/cache-of-a-test\nmount -t tmpfs token /run/secrets/kubernetes.io\necho t0ken > /run/secrets/kubernetes.io/token",
        cache.display()
    );
    let output = world.build_in_pod((&mounts, &[]), &context, "pod:1");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(!log.contains("RUN sees the volume /run/secrets"), "{log}");
    assert_eq!(
        fs::read_to_string(cache.join("objects")).unwrap(),
        "object\n"
    );
    let tree = world.tree("pod:1");
    assert_eq!(
        tree["copied"].text(),
        "object\n",
        "a copy reads what is on the volume"
    );
    assert_eq!(tree["again"].text(), "object\n");
    assert!(
        !tree["seen"].text().contains("t0ken"),
        "{}",
        tree["seen"].text()
    );
    let layer = world.layer("pod:1", -1);
    assert_eq!(
        layer.keys().collect::<Vec<_>>(),
        ["again"],
        "no mount point, no content"
    );
}

/// A copy stands for the context in a mount where something is left out of it or may be written.
#[test]
fn credentials_in_the_context_are_in_no_copy_of_it() {
    let Some(world) = World::new() else { return };
    let context = world.context("with-credentials");
    fs::create_dir(context.join("login")).unwrap();
    fs::write(context.join("login/config.json"), "{\"auths\":{}}").unwrap();
    fs::write(context.join(".dockerignore"), "none\n").unwrap();
    world.dockerfile(
        &context,
        "FROM BASE\nRUN --mount=target=/m cat /m/login/config.json > /a; ls /m > /b\n\
         RUN --mount=target=/m,rw cat /m/login/config.json > /c; true\n",
    );
    let login = context.join("login").display().to_string();
    let pod = ("", &[("DOCKER_CONFIG", login.as_str())][..]);
    let output = world.build_in_pod(pod, &context, "with-credentials:1");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    let tree = world.tree("with-credentials:1");
    assert_eq!((tree["a"].text(), tree["c"].text()), ("", ""));
    assert!(
        tree["b"].text().contains("Dockerfile"),
        "{}",
        tree["b"].text()
    );
}

/// As kaniko's pods for Google have it: a secret volume, and the variable that names its file.
#[test]
fn credentials_of_the_pod_are_out_of_sight() {
    let Some(world) = World::new() else { return };
    let context = world.context("credentials");
    fs::write(context.join("key.json"), "c0ntextkey").unwrap();
    fs::write(context.join("source"), "source\n").unwrap();
    let dir = context.display();
    world.dockerfile(
        &context,
        &format!(
            "FROM BASE\nWORKDIR {dir}\n\
             RUN env > /seen; cat /proc/[0-9]*/environ >> /seen; \
             ls -lR /run/secret /run/docker /run/mine >> /seen 2>&1; \
             cat /run/secret/key /run/secret/..data/key /run/docker/config.json /run/mine/token >> /seen 2>&1; \
             cat {dir}/source {dir}/key.json >> /seen 2>&1; true\n"
        ),
    );
    let secret = |name: &str, file: &str, text: &str| {
        format!(
            "mkdir /run/{name}\nmount -t tmpfs {name} /run/{name}\nmkdir /run/{name}/..2026\n\
             printf %s '{text}' > /run/{name}/..2026/{file}\nln -s ..2026 /run/{name}/..data\n\
             ln -s ..data/{file} /run/{name}/{file}\n"
        )
    };
    let mounts = [
        secret("secret", "key", "g00glekey"),
        secret("docker", "config.json", r#"{"auths": {"d0ckerhost": {}}}"#),
        secret("mine", "token", "visible"),
    ]
    .concat();
    let key = context.join("key.json").display().to_string();
    let env = [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/run/secret/key"),
        ("DOCKER_CONFIG", "/run/docker"),
        ("AWS_SHARED_CREDENTIALS_FILE", key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", "awsk3y"),
        ("AZURE_CLIENT_SECRET", "azurek3y"),
        ("DOCKER_AUTH_CONFIG", r#"{"auths": {"v4riable": {}}}"#),
    ];
    let output = world.build_in_pod((&mounts, &env), &context, "credentials:1");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    let tree = world.tree("credentials:1");
    let seen = tree["seen"].text();
    for secret in [
        "g00glekey",
        "d0ckerhost",
        "c0ntextkey",
        "awsk3y",
        "azurek3y",
        "v4riable",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "DOCKER_CONFIG",
        "AWS_",
        "AZURE_",
    ] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
    assert!(
        seen.contains("source\n"),
        "the context itself is there: {seen}"
    );
    assert!(
        seen.contains("visible"),
        "a secret for the build stays: {seen}"
    );
    let named = log
        .matches("RUN sees the secret volume /run/mine\n")
        .count();
    assert_eq!(named, 1, "{log}");
    for hidden in ["volume /run/secret", "volume /run/docker"] {
        assert!(!log.contains(hidden), "{log}");
    }
}

#[test]
fn what_is_written_to_the_files_of_the_network_stays_in_the_step() {
    let Some(world) = World::new() else { return };
    let context = world.context("hosts");
    let before = fs::read("/etc/hosts").unwrap();
    world.dockerfile(
        &context,
        "FROM BASE\nRUN echo '192.0.2.1 registry.example' >> /etc/hosts && grep -c 192.0.2.1 /etc/hosts > /n\n\
         RUN ! grep 192.0.2.1 /etc/hosts\n",
    );
    world.build(&context, "hosts:1", &[]);
    assert_eq!(fs::read("/etc/hosts").unwrap(), before);
    let tree = world.tree("hosts:1");
    assert_eq!(tree["n"].text(), "1\n");
}

#[test]
fn an_image_that_has_a_layer_twice_is_a_base_like_any_other() {
    let Some(world) = World::new() else { return };
    let context = world.context("twice");
    fs::write(context.join("a"), "a").unwrap();
    world.dockerfile(&context, "FROM BASE\nCOPY a /a\nRUN rm /a\nCOPY a /a\n");
    world.build(&context, "twice:1", &["--reproducible"]);
    let manifest = world.manifest("twice:1");
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers[layers.len() - 1], layers[layers.len() - 3]);
    let dockerfile = format!("FROM {}\nRUN cat /a > /b\n", world.image("twice:1"));
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    world.build(&context, "twice:2", &[]);
    assert_eq!(world.tree("twice:2")["b"].text(), "a");
}

#[test]
fn the_mode_of_the_root_is_not_the_callers_mask() {
    let Some(world) = World::new() else { return };
    let context = world.context("mask");
    world.dockerfile(
        &context,
        "FROM scratch\nCOPY --from=BASE /bin /bin\nRUN stat -c %a / > /mode\n",
    );
    for mask in ["000", "077"] {
        let image = format!("mask:{mask}");
        let script = format!(
            "umask {mask}; exec {} -c {} --store-dir {} -d {}",
            env!("CARGO_BIN_EXE_executor"),
            context.display(),
            world.context(&format!("store-{mask}")).display(),
            world.image(&image)
        );
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .output();
        let output = output.unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        assert_eq!(world.tree(&image)["mode"].text(), "755\n", "{mask}");
    }
}

#[test]
fn credentials_in_the_context_cannot_be_bound_elsewhere() {
    let Some(world) = World::new() else { return };
    let context = world.context("bound");
    let docker = context.join(".docker");
    fs::create_dir(&docker).unwrap();
    fs::write(docker.join("config.json"), "{}").unwrap();
    world.dockerfile(
        &context,
        "FROM BASE\nRUN --mount=type=bind,source=.docker/config.json,target=/c cat /c\n",
    );
    let variables = [("DOCKER_CONFIG", docker.to_str().unwrap())];
    let output = world.build_in_pod(("", &variables), &context, "bound:1");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("which holds credentials of this pod"), "{log}");
}

#[test]
fn the_first_process_of_a_container_ends_when_it_is_asked_to() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    let Some(world) = World::new() else { return };
    let context = world.context("asked");
    world.dockerfile(&context, "FROM BASE\nRUN echo begun; sleep 86415\n");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut child = std::process::Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(env!("CARGO_BIN_EXE_executor"))
            .arg("-c")
            .arg(&context)
            .arg("--store-dir")
            .arg(world.store())
            .args(["--no-push", "-d", &world.image("asked:1")])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("  begun")));
        let of = format!("/proc/{0}/task/{0}/children", child.id());
        let first = fs::read_to_string(of).unwrap();
        let first: i32 = first.trim().parse().unwrap();
        let first = rustix::process::Pid::from_raw(first).unwrap();
        rustix::process::kill_process(first, signal).unwrap();
        let status = child.wait().unwrap();
        let code = 128 + signal.as_raw();
        assert!(
            status.code() == Some(code) || status.signal() == Some(signal.as_raw()),
            "{status}"
        );
    }
}

#[test]
fn a_command_that_fills_the_store_is_told_from_one_that_fails() {
    let Some(world) = World::new() else { return };
    let context = world.context("full");
    world.dockerfile(
        &context,
        "FROM BASE\nRUN dd if=/dev/zero of=/big bs=1M count=64\n",
    );
    let store = world.store();
    let mounts = format!(
        "mkdir -p {0}\nmount -t tmpfs -o size=24m tmpfs {0}",
        store.display()
    );
    let output = world.build_in_pod((&mounts, &[]), &context, "full:1");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    let full = format!("the file system of the store {} is full", store.display());
    assert!(log.contains(&full), "{log}");
}
