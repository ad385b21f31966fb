//! Variables and stages of whole files: what a build with given arguments sees.

use std::collections::BTreeMap;

use kiln_dockerfile::graph::{GraphError, Reference, StageGraph};
use kiln_dockerfile::instruction::{Instruction, Script};
use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::{BuildFor, Globals, Scope};
use kiln_dockerfile::{Dockerfile, parse, parse_onbuild};

fn globals(dockerfile: &Dockerfile, build_args: &[(&str, &str)]) -> Globals {
    let build_args: BTreeMap<String, String> = build_args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let platform = |text| Platform::parse(text).expect("a platform");
    let build = BuildFor {
        build: platform("linux/amd64"),
        target: platform("linux/arm/v7"),
        stage: None,
    };
    Globals::evaluate(dockerfile, &build, &build_args).expect("all global ARGs expand")
}

/// The word of the last `USER`, in the scope of its place.
fn user(text: &str, build_args: &[(&str, &str)]) -> String {
    let dockerfile = parse(text).expect(text);
    let globals = globals(&dockerfile, build_args);
    let stage = dockerfile.stages.last().expect("a file has a stage");
    let mut scope = globals.stage([("HOME".to_owned(), "/root".to_owned())]);
    let mut user = String::new();
    for located in &stage.instructions {
        step(&mut scope, &located.value);
        if let Instruction::User(word) = &located.value {
            user = scope.expand(word).expect(word);
        }
    }
    user
}

fn step(scope: &mut Scope<'_>, instruction: &Instruction) {
    match instruction {
        Instruction::Arg(args) => {
            args.iter()
                .for_each(|arg| scope.declare(arg).expect("the default expands"));
        }
        Instruction::Env(pairs) => scope.set_env(pairs).expect("the values expand"),
        _ => {}
    }
}

/// Cases after the ARG and ENV chapters of <https://docs.docker.com/reference/dockerfile/>.
#[test]
fn arguments_and_environment_have_their_order() {
    for (text, build_args, expected) in [
        ("FROM a\nUSER $u", &[("u", "given")][..], ""),
        ("FROM a\nARG u\nUSER $u", &[("u", "given")], "given"),
        ("FROM a\nARG u=default\nUSER $u", &[], "default"),
        ("FROM a\nARG u=default\nUSER $u", &[("u", "given")], "given"),
        ("ARG u=global\nFROM a\nUSER $u", &[], ""),
        ("ARG u=global\nFROM a\nARG u\nUSER $u", &[], "global"),
        ("ARG u=global\nFROM a\nARG u=own\nUSER $u", &[], "own"),
        (
            "ARG u\nARG v=$u-x\nFROM a\nARG v\nUSER $v",
            &[("u", "given")],
            "given-x",
        ),
        (
            "FROM a\nARG u=arg\nENV u=env\nUSER $u",
            &[("u", "given")],
            "env",
        ),
        ("FROM a\nENV u=env\nARG u=arg\nUSER $u", &[], "arg"),
        ("FROM a\nENV u=env\nARG u\nUSER $u", &[], "env"),
        (
            "FROM a\nENV u=env\nARG u\nUSER $u",
            &[("u", "given")],
            "given",
        ),
        ("FROM a\nENV u=old\nENV u=new v=$u\nUSER $v", &[], "old"),
        ("FROM a\nUSER $HOME", &[], "/root"),
        (
            "FROM a\nUSER ${HTTP_PROXY:-none}",
            &[("HTTP_PROXY", "p")],
            "none",
        ),
        ("FROM a\nUSER ${TARGETARCH:-none}", &[], "none"),
        (
            "FROM a\nARG TARGETPLATFORM TARGETVARIANT\nUSER $TARGETPLATFORM",
            &[],
            "linux/arm/v7",
        ),
        (
            "FROM a\nARG BUILDARCH\nUSER $BUILDARCH",
            &[("BUILDARCH", "mine")],
            "mine",
        ),
        ("FROM a\nARG TARGETSTAGE\nUSER $TARGETSTAGE", &[], "default"),
        ("# escape=`\nFROM a\nENV d=C:\\x\nUSER $d`$", &[], "C:\\x$"),
    ] {
        assert_eq!(user(text, build_args), expected, "{text}");
    }
}

#[test]
fn only_env_reaches_the_image_and_a_child_stage_inherits_arguments() {
    let text = "FROM a\nARG u=arg\nARG v=1\nENV u=env w=$v\nARG u=late";
    let dockerfile = parse(text).expect("valid");
    let globals = globals(&dockerfile, &[]);
    let mut scope = globals.stage([]);
    for located in &dockerfile.stages[0].instructions {
        step(&mut scope, &located.value);
    }
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(scope.image_env(), [pair("u", "env"), pair("w", "1")]);
    assert_eq!(
        scope.run_env(),
        [pair("u", "late"), pair("v", "1"), pair("w", "1")]
    );
    let child = scope.child();
    assert_eq!(
        child.run_env(),
        [pair("u", "env"), pair("v", "1"), pair("w", "1")]
    );
    assert_eq!(child.declared_args(), scope.declared_args());
}

fn graph(text: &str) -> Result<StageGraph, GraphError> {
    let dockerfile = parse(text).expect(text);
    StageGraph::new(&dockerfile, &globals(&dockerfile, &[]))
}

#[test]
fn a_target_needs_what_its_stages_read() {
    let text = "\
        ARG BASE=Tools\n\
        FROM alpine AS tools\n\
        FROM alpine AS unused\n\
        FROM node AS assets\n\
        FROM $BASE AS build\n\
        COPY --from=0 /a /b\n\
        RUN --mount=from=assets,target=/x true\n\
        FROM scratch\n\
        COPY --from=BUILD /b /\n\
        COPY --from=docker.io/library/busybox /bin /bin\n";
    let graph = graph(text).expect("the stages fit");
    assert_eq!(graph.target(None), Ok(4));
    assert_eq!(graph.target(Some("Build")), Ok(3));
    assert_eq!(graph.target(Some("1")), Ok(1));
    assert_eq!(graph.needed(4), Ok(vec![0, 2, 3, 4]));
    assert_eq!(graph.needed(1), Ok(vec![1]));
    assert_eq!(graph.base(3), &Reference::Stage(0));
    assert_eq!(
        graph.needs(4),
        [
            Reference::External("scratch".to_owned()),
            Reference::Stage(3),
            Reference::External("docker.io/library/busybox".to_owned()),
        ]
    );
}

#[test]
fn a_base_is_an_earlier_stage_or_an_image() {
    let graph = graph("FROM b AS a\nFROM x AS b\nFROM a AS a\nFROM a").expect("the stages fit");
    assert_eq!(graph.base(0), &Reference::External("b".to_owned()));
    assert_eq!(graph.base(2), &Reference::Stage(0));
    assert_eq!(graph.base(3), &Reference::Stage(2));
}

#[test]
fn triggers_of_a_base_stage_count_for_the_stage_on_it() {
    let text = "FROM a AS lib\nFROM b AS base\nONBUILD COPY --from=lib /l /l\nFROM base\nFROM base";
    let graph = graph(text).expect("the stages fit");
    assert_eq!(graph.needed(1), Ok(vec![1]));
    assert_eq!(graph.needed(2), Ok(vec![1, 0, 2]));
}

#[test]
fn stages_that_do_not_fit_are_refused() {
    for (text, message) in [
        (
            "FROM a\nCOPY --from=3 / /",
            "line 2, column 1: there is no stage 3; the file has 1, counted from 0",
        ),
        (
            "FROM $none",
            "line 1, column 1: the base image `$none` is empty; give its ARG a default before \
             FROM, or pass --build-arg",
        ),
    ] {
        assert_eq!(graph(text).expect_err(text).to_string(), message);
    }
    let later = graph("FROM a\nCOPY --from=y / /\nFROM b AS y").expect("the names are known");
    let error = later.needed(0).expect_err("y comes later");
    assert_eq!(
        error.to_string(),
        "line 2, column 1: the stage `y` is not built before this; move it above the stage that \
         reads from it"
    );
    assert_eq!(later.needed(1), Ok(vec![1]));
    let graph = graph("FROM a AS build\nFROM b").expect("the stages fit");
    let error = graph
        .target(Some("biuld"))
        .expect_err("there is no such stage");
    assert_eq!(
        error.to_string(),
        "there is no stage `biuld`; the stages are build, 1"
    );
    assert!(matches!(error, GraphError::NoSuchTarget { nearest: Some(n), .. } if n == "build"));
}

#[test]
fn a_trigger_is_one_instruction_with_its_heredocs() {
    let located = parse_onbuild("RUN <<EOF\necho hi\nEOF").expect("one instruction");
    let Instruction::Run(run) = located.value else {
        panic!("a RUN")
    };
    assert_eq!(run.script(), Script::Shell("echo hi\n".to_owned()));
    for (trigger, message) in [
        (
            "RUN a\nRUN b",
            "line 2, column 1: the ONBUILD trigger holds more than one instruction",
        ),
        (
            "FROM a",
            "line 1, column 1: FROM cannot be a trigger of ONBUILD",
        ),
        ("", "line 1, column 1: there are no instructions"),
    ] {
        assert_eq!(
            parse_onbuild(trigger).expect_err(trigger).to_string(),
            message
        );
    }
}

/// `dispatchRun` of BuildKit: one here-document alone is the script, a shebang makes it a file,
/// anything else goes to the shell with its here-documents.
#[test]
fn a_run_executes_its_heredocs_as_buildkit_does() {
    for (text, expected) in [
        ("RUN a b", Script::Shell("a b".to_owned())),
        ("RUN [\"a\"]", Script::Exec(vec!["a".to_owned()])),
        (
            "RUN <<-E\n\t\ta\n\tb\n\tE",
            Script::Shell("a\nb\n".to_owned()),
        ),
        (
            "RUN <<E\n#!/bin/python\nx\nE",
            Script::File {
                name: "E".to_owned(),
                content: "#!/bin/python\nx\n".to_owned(),
            },
        ),
        (
            "RUN cat <<E >f\na\nE",
            Script::Shell("cat <<E >f\na\nE".to_owned()),
        ),
        (
            "RUN a <<X <<'Y'\n1\nX\n2\nY",
            Script::Shell("a <<X <<'Y'\n1\nX\n2\nY".to_owned()),
        ),
    ] {
        let dockerfile = parse(&format!("FROM a\n{text}\n")).expect(text);
        let Instruction::Run(run) = &dockerfile.stages[0].instructions[0].value else {
            panic!("a RUN")
        };
        assert_eq!(run.script(), expected, "{text}");
    }
}
