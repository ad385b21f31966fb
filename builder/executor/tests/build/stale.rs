//! What was built before and looks the same, but is not: none of it may come from the cache.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::world::{Tree, World};

/// The texts of these files.
fn texts<const N: usize>(tree: &Tree, names: [&str; N]) -> [String; N] {
    names.map(|name| tree[name].text().to_owned())
}

/// `COPY x /x` of a file `x`, and of a directory that holds a file `x`.
#[test]
fn a_file_is_no_directory_with_a_file_of_that_name() {
    let Some(world) = World::new() else { return };
    let context = world.context("kinds");
    world.dockerfile(&context, "FROM scratch\nCOPY x /x\n");
    fs::write(context.join("x"), "1\n").unwrap();
    world.build(&context, "kinds:1", &[]);
    fs::remove_file(context.join("x")).unwrap();
    fs::create_dir(context.join("x")).unwrap();
    fs::write(context.join("x/x"), "1\n").unwrap();
    world.build(&context, "kinds:2", &[]);
    assert_eq!(world.tree("kinds:2")["x/x"].text(), "1\n");
}

/// The image is the same whether the RUN before was done or known: what covers the image while a
/// command runs is no part of it.
#[test]
fn where_files_are_put_does_not_depend_on_the_cache() {
    let Some(world) = World::new() else { return };
    let context = world.context("covered");
    fs::write(context.join("f"), "f\n").unwrap();
    fs::create_dir(context.join("sub")).unwrap();
    fs::write(context.join("sub/k"), "k\n").unwrap();
    let at = context.display();
    for (tag, step, expected) in [
        ("workdir", format!("WORKDIR {at}"), ""),
        ("copy", format!("COPY f {at}/sub"), "sub"),
    ] {
        let run = format!("FROM BASE\nRUN cat {at}/f > /o\n");
        world.dockerfile(&context, &run);
        world.build(&context, "covered:first", &[]);
        world.dockerfile(&context, &format!("{run}{step}\n"));
        world.build(&context, "covered:warm", &[]);
        world.build(&context, "covered:cold", &["--cache=false"]);
        let made = context.join(expected);
        let made = made.strip_prefix("/").unwrap().display().to_string();
        let made = made.trim_end_matches('/');
        for image in ["covered:warm", "covered:cold"] {
            assert!(world.tree(image).contains_key(made), "{tag}: {image}");
        }
    }
}

/// A command takes away what covered the context, so the next one sees the context, which the plan
/// could not know.
#[test]
fn a_context_that_is_uncovered_counts() {
    let Some(world) = World::new() else { return };
    let context = world.context("uncovered");
    let at = context.display();
    world.dockerfile(
        &context,
        &format!(
            "FROM BASE AS moved\nCOPY f {at}/f\nRUN mv {at} /app\nFROM moved\nRUN cat {at}/g > /o\n"
        ),
    );
    fs::write(context.join("f"), "f\n").unwrap();
    for text in ["1\n", "2\n"] {
        fs::write(context.join("g"), text).unwrap();
        world.build(&context, "uncovered:1", &[]);
        assert_eq!(world.tree("uncovered:1")["o"].text(), text);
    }
}

/// Two checkouts of the same files at two places.
#[test]
fn the_place_of_the_context_counts_where_commands_see_it() {
    let Some(world) = World::new() else { return };
    let contexts = [world.context("here"), world.context("there")];
    let [here, there] = contexts.each_ref().map(|context| context.display());
    for context in &contexts {
        world.dockerfile(
            context,
            &format!("FROM BASE\nRUN ls {here} > /here; ls {there} > /there; true\n"),
        );
    }
    world.build(&contexts[0], "place:1", &[]);
    world.build(&contexts[1], "place:2", &[]);
    let seen = ["here", "there"];
    let files = "Dockerfile\n".to_owned();
    assert_eq!(
        texts(&world.tree("place:1"), seen),
        [files.clone(), String::new()]
    );
    assert_eq!(texts(&world.tree("place:2"), seen), [String::new(), files]);
}

/// `--ignore-path` is about what commands leave; a copy puts its files there whatever it says.
#[test]
fn copied_files_stay_below_an_ignored_path() {
    let Some(world) = World::new() else { return };
    let context = world.context("ignored-path");
    fs::write(context.join("x"), "x\n").unwrap();
    let text = "FROM BASE AS a\nCOPY x /foo/x\nRUN touch /r\nFROM scratch\nCOPY --from=a /r /r\n";
    world.dockerfile(&context, text);
    let flags = ["--ignore-path=/foo"];
    world.build(&context, "ignored-path:1", &flags);
    world.build(&context, "ignored-path:2", &["--target=a", flags[0]]);
    assert_eq!(world.tree("ignored-path:2")["foo/x"].text(), "x\n");
}

/// A cache that starts with the files of a stage starts anew when these are others.
#[test]
fn a_cache_that_starts_with_a_stage_follows_it() {
    let Some(world) = World::new() else { return };
    let context = world.context("started");
    let anew = &["--cache=false"][..];
    for (text, flags) in [("1", &[][..]), ("2", &[]), ("3", anew), ("4", anew)] {
        world.dockerfile(
            &context,
            &format!(
                "FROM BASE AS s\nRUN mkdir /d && echo {text} > /d/x\nFROM BASE\n\
                 RUN --mount=type=cache,id=started,target=/m,from=s,source=/d cat /m/x > /o\n"
            ),
        );
        world.build(&context, "started:1", flags);
        assert_eq!(world.tree("started:1")["o"].text(), format!("{text}\n"));
    }
}

/// An old `SOURCE_DATE_EPOCH` says nothing about the age of a layer in the cache.
#[test]
fn a_fixed_time_makes_no_layer_too_old() {
    let Some(world) = World::new() else { return };
    let context = world.context("epoch");
    world.dockerfile(&context, "FROM BASE\nRUN echo 1 > /o\n");
    let repo = format!("--cache-repo={}", world.image("epoch-cache"));
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=1600000000";
    let store = |name: &str| format!("--store-dir={}", world.context(name).display());
    world.build(
        &context,
        "epoch:1",
        &["--cache", &repo, epoch, &store("one")],
    );
    let log = world.build(
        &context,
        "epoch:2",
        &["--cache", &repo, epoch, &store("two")],
    );
    assert!(log.contains("cached"), "{log}");
}

/// What the gate gives.
const GATE: &str = "gate\n";
/// Its digest.
const GATE_DIGEST: &str = "sha256:b53de24efca885870a2da981663ab056c5bf737218281603e6f2cfb2b2e09b31";

/// A web server that does something whenever it is asked; its address.
fn gate(open: impl Fn() + Send + 'static) -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut asked in server.incoming().flatten() {
            let mut head = [0; 1024];
            let _ = asked.read(&mut head);
            open();
            let length = GATE.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{GATE}"
            );
            let _ = asked.write_all(answer.as_bytes());
        }
    });
    address
}

/// Files that are written while a build goes on: the keys were made of what was there before. A web
/// server changes the context when the build comes by, and it is changed back afterwards.
#[test]
fn what_changes_while_it_is_built_is_not_kept() {
    let Some(world) = World::new() else { return };
    let context = world.context("changing");
    let file = context.join("x");
    let address = gate({
        let file = file.clone();
        move || fs::write(&file, "meanwhile\n").unwrap()
    });
    let write = |text: &str| fs::write(&file, text).unwrap();
    for (name, steps) in [
        ("copied", "COPY x /x\nRUN cat /x > /y\n"),
        ("bound", "RUN --mount=target=/m cp /m/x /x; cp /m/x /y\n"),
        ("found", "COPY * /\nRUN cp /x /y\n"),
    ] {
        let tag = format!("changing:{name}");
        // The digest makes the gate a step that the second build takes from the cache.
        let gate = format!("ADD --checksum={GATE_DIGEST} http://{address}/{name} /gate\n");
        world.dockerfile(&context, &format!("FROM BASE\n{gate}{steps}"));
        write("before\n");
        let log = world.build(&context, &tag, &[]);
        let said = log.contains("the context changed while it was built");
        assert!(said, "{log}");
        write("before\n");
        let log = world.build(&context, &tag, &[]);
        assert!(log.contains("cached"), "the gate is known: {log}");
        let before = "before\n".to_owned();
        let found = texts(&world.tree(&tag), ["x", "y"]);
        assert_eq!(found, [before.clone(), before], "{name}");
    }
}
