use std::collections::BTreeMap;

use super::*;
use crate::expand::NoVariables;

const HERE: Position = Position::new(1, 1);

fn mount(text: &str) -> Result<Mount, MountError> {
    MountFlag::parse(text, HERE)?.resolve(&NoVariables, Escape::Backslash)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_mount_without_a_type_is_a_read_only_bind() {
    let expected = Mount {
        target: some("/src"),
        read_only: true,
        ..Mount::default()
    };
    assert_eq!(mount("target=/src"), Ok(expected));
}

#[test]
fn every_option_has_its_names() {
    for (text, expected) in [
        (
            "type=bind,from=base,src=/a,dst=/b,rw",
            Mount {
                from: some("base"),
                source: some("/a"),
                target: some("/b"),
                ..Mount::default()
            },
        ),
        (
            "type=cache,id=npm,destination=/c,sharing=locked,mode=0755,uid=1,gid=2,ro",
            Mount {
                kind: MountKind::Cache,
                id: some("npm"),
                target: some("/c"),
                sharing: Sharing::Locked,
                mode: Some(0o755),
                uid: Some(1),
                gid: Some(2),
                read_only: true,
                ..Mount::default()
            },
        ),
        (
            "TYPE=TMPFS,target=/t,size=1.5g",
            Mount {
                kind: MountKind::Tmpfs,
                target: some("/t"),
                size: Some(1_610_612_736),
                ..Mount::default()
            },
        ),
        (
            "type=secret,id=token,env=TOKEN,required",
            Mount {
                kind: MountKind::Secret,
                id: some("token"),
                env: some("TOKEN"),
                required: true,
                read_only: true,
                ..Mount::default()
            },
        ),
        (
            "type=ssh,required=true,mode=0600,readonly=false",
            Mount {
                kind: MountKind::Ssh,
                required: true,
                mode: Some(0o600),
                ..Mount::default()
            },
        ),
        (
            "\"target=/a,b\",type=cache",
            Mount {
                kind: MountKind::Cache,
                target: some("/a,b"),
                ..Mount::default()
            },
        ),
    ] {
        assert_eq!(mount(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_advice() {
    for (text, message, hint) in [
        (
            "type=cahce,target=/x",
            "unknown mount type `cahce`",
            "did you mean `cache`?",
        ),
        (
            "type=cache,tagret=/x",
            "unknown mount option `tagret`",
            "did you mean `target`?",
        ),
        (
            "type=cache,target",
            "the mount option `target` has no value",
            "write target=<value>",
        ),
        (
            "type=bind,target=/x,mode=0755",
            "a mount of type bind has no option `mode`",
            "remove `mode`",
        ),
        (
            "type=tmpfs,target=/x,sharing=locked",
            "a mount of type tmpfs has no option `sharing`",
            "remove `sharing`",
        ),
        (
            "type=cache,target=/x,sharing=sometimes",
            "`sometimes` is no value for the mount option `sharing`",
            "write shared, private or locked",
        ),
        (
            "type=cache,target=/x,size=1g",
            "a mount of type cache has no option `size`",
            "remove `size`",
        ),
        (
            "type=secret",
            "a secret mount needs an id, a source or a target",
            "add id=<name>",
        ),
        (
            "type=secret,id=a,source=b",
            "a secret mount has either a source or an id, not both",
            "remove one of them",
        ),
        (
            "from=$stage,target=/x",
            "`from=$stage`: the stage of a mount cannot be a variable",
            "add a stage `FROM $stage AS <name>` and write from=<name>",
        ),
        (
            "type=secret,id=a,mode=9",
            "`9` is no value for the mount option `mode`",
            "write an octal mode such as 0400",
        ),
        (
            "a\"b",
            "`a\"b` is no comma-separated list of options",
            "write type=<type>,option=value,…",
        ),
    ] {
        let error = mount(text).expect_err(text);
        assert_eq!(error.to_string(), message);
        assert_eq!(error.hint().as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn values_are_expanded_when_the_scope_is_known() {
    let flag = MountFlag::parse("type=cache,target=$HOME/.cache,id=$id", HERE);
    let flag = flag.expect("variables are not checked yet");
    let variables = BTreeMap::from([
        ("HOME".to_owned(), "/root".to_owned()),
        ("id".to_owned(), "go".to_owned()),
    ]);
    let mount = flag
        .resolve(&variables, Escape::Backslash)
        .expect("all values are given");
    assert_eq!(mount.target_path("/"), Ok(some("/root/.cache")));
    assert_eq!(mount.identity(), some("go"));
}

#[test]
fn defaults_of_target_and_identity_are_buildkits() {
    for (text, workdir, target, identity) in [
        (
            "type=cache,target=cache/../go",
            "/app",
            some("/app/go"),
            some("go"),
        ),
        (
            "type=secret,id=npmrc",
            "/app",
            some("/run/secrets/npmrc"),
            some("npmrc"),
        ),
        (
            "type=secret,target=/etc/key",
            "/",
            some("/etc/key"),
            some("key"),
        ),
        ("type=secret,id=a,env=A", "/", None, some("a")),
        ("type=ssh", "/", None, some("default")),
        ("type=bind", "/app", some("/app"), None),
    ] {
        let mount = mount(text).expect(text);
        assert_eq!(mount.target_path(workdir), Ok(target), "{text}");
        assert_eq!(mount.identity(), identity, "{text}");
    }
    let root = mount("type=bind,target=..").expect("a relative target is allowed");
    assert_eq!(root.target_path("/app"), Err(MountError::CoversRoot));
}
