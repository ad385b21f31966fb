//! What is not done again: in the store of one machine, and through a repository between machines.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::world::World;

/// Instructions of the log that were taken from the cache, and those that were done.
fn split(log: &str) -> (Vec<String>, Vec<String>) {
    let (mut cached, mut done) = (Vec::new(), Vec::new());
    for line in log.lines().filter(|line| line.starts_with('[')) {
        let Some((id, text)) = line.split_once("] ") else {
            continue;
        };
        let id = &id[1..];
        if text.starts_with("cached") {
            cached.push(id.to_owned());
        } else if text.starts_with("done") && !id.split(' ').nth(1).unwrap().starts_with("1/") {
            done.push(id.to_owned());
        }
    }
    (cached, done)
}

fn blobs(store: &Path) -> usize {
    fs::read_dir(store.join("blobs/sha256")).unwrap().count()
}

const TWO_STAGES: &str = "FROM BASE AS build\nWORKDIR /src\nCOPY list .\nRUN cat list > /installed\n\
    COPY main .\nRUN cat main list > /out\n\
    FROM BASE\nCOPY --from=build /out /out\nENV A=1\nRUN echo ran > /ran\nCMD [\"/out\"]\n";

#[test]
fn nothing_changed_is_nothing_done_and_the_same_image() {
    let Some(world) = World::new() else { return };
    let context = world.context("same");
    world.dockerfile(&context, TWO_STAGES);
    fs::write(context.join("list"), "a\n").unwrap();
    fs::write(context.join("main"), "m\n").unwrap();
    world.build(&context, "same:1", &[]);
    let blobs_before = blobs(&world.store());
    let log = world.build(&context, "same:2", &[]);
    assert_eq!(split(&log).1, [""; 0], "{log}");
    assert!(
        !log.contains("isolation of RUN"),
        "no sandbox is looked for: {log}"
    );
    assert!(
        !log.contains("[build "),
        "a stage that nothing needs is not looked at: {log}"
    );
    assert_eq!(world.digest("same:1"), world.digest("same:2"));
    assert_eq!(blobs(&world.store()), blobs_before);
    // Owners and times of a checkout do not count; contents and modes do.
    let touched = fs::File::open(context.join("main")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let log = world.build(&context, "same:3", &[]);
    assert_eq!(split(&log).1, [""; 0], "{log}");
    fs::set_permissions(context.join("main"), fs::Permissions::from_mode(0o755)).unwrap();
    let log = world.build(&context, "same:4", &[]);
    assert!(log.contains("COPY main"), "{log}");
}

#[test]
fn what_comes_before_a_change_is_not_done_again() {
    let Some(world) = World::new() else { return };
    let context = world.context("partly");
    world.dockerfile(&context, TWO_STAGES);
    fs::write(context.join("list"), "a\n").unwrap();
    fs::write(context.join("main"), "old\n").unwrap();
    world.build(&context, "partly:1", &[]);
    fs::write(context.join("main"), "new\n").unwrap();
    let log = world.build(&context, "partly:2", &[]);
    let (cached, done) = split(&log);
    assert_eq!(cached, ["build 2/6", "build 3/6", "build 4/6"], "{log}");
    assert_eq!(done, ["build 5/6", "build 6/6", "1 2/3", "1 3/3"], "{log}");
    assert_eq!(world.tree("partly:2")["out"].text(), "new\na\n");
    // The intermediate stage on its own, whose layers have no blobs yet.
    let log = world.build(&context, "partly:3", &["--target=build"]);
    assert_eq!(split(&log).1, [""; 0], "{log}");
    let tree = world.tree("partly:3");
    assert_eq!(tree["installed"].text(), "a\n");
    assert_eq!(tree["src/main"].text(), "new\n");
    // Arguments count where they are declared, a command's text always.
    let text = TWO_STAGES.replace("RUN echo ran", "ARG WHO\nRUN echo ran");
    world.dockerfile(&context, &text);
    world.build(&context, "partly:4", &["--build-arg=WHO=a"]);
    let log = world.build(&context, "partly:5", &["--build-arg=WHO=b"]);
    assert_eq!(split(&log).1, ["1 3/3"], "{log}");
    let log = world.build(&context, "partly:6", &["--cache=false"]);
    assert_eq!(split(&log).0, [""; 0], "{log}");
}

#[test]
fn links_names_and_ignored_files_of_a_copied_directory() {
    let Some(world) = World::new() else { return };
    let context = world.context("tree");
    world.dockerfile(&context, "FROM scratch\nCOPY . /\n");
    fs::create_dir(context.join("d")).unwrap();
    fs::write(context.join("d/file"), "1").unwrap();
    symlink("file", context.join("d/link")).unwrap();
    fs::write(context.join(".dockerignore"), "ignored\n").unwrap();
    fs::write(context.join("ignored"), "1").unwrap();
    let is_done = |tag: &str| split(&world.build(&context, tag, &[])).1.len() == 1;
    assert!(is_done("tree:1"));
    fs::write(context.join("ignored"), "2").unwrap();
    assert!(!is_done("tree:2"), "an ignored file does not count");
    fs::remove_file(context.join("d/link")).unwrap();
    symlink("other", context.join("d/link")).unwrap();
    assert!(is_done("tree:3"), "the target of a link counts");
    fs::rename(context.join("d/file"), context.join("d/renamed")).unwrap();
    assert!(is_done("tree:4"), "a name counts");
    fs::create_dir(context.join("empty")).unwrap();
    assert!(is_done("tree:5"), "an empty directory counts");
    assert!(world.tree("tree:5").contains_key("empty"));
}

/// The store and the log of a machine that has never built anything.
fn elsewhere(world: &World, name: &str) -> String {
    let dir = world.context(name);
    format!("--store-dir={}", dir.display())
}

#[test]
fn another_machine_takes_everything_from_the_cache_repository() {
    let Some(world) = World::new() else { return };
    let context = world.context("shared");
    world.dockerfile(&context, TWO_STAGES);
    fs::write(context.join("list"), "a\n").unwrap();
    fs::write(context.join("main"), "m\n").unwrap();
    let layout = format!(
        "--cache-repo=oci:{}",
        world.context("layout").join("c").display()
    );
    let nested = format!("--cache-repo={}", world.image("elsewhere/cache"));
    for (case, flag) in ["--cache=true", &layout, &nested].into_iter().enumerate() {
        let tag = |step: &str| format!("shared{case}:{step}");
        let (one, two, three) = (
            elsewhere(&world, &format!("one{case}")),
            elsewhere(&world, &format!("two{case}")),
            elsewhere(&world, &format!("three{case}")),
        );
        world.build(&context, &tag("1"), &["--cache", flag, &one]);
        let log = world.build(&context, &tag("2"), &["--cache", flag, &two]);
        assert_eq!(split(&log).1, [""; 0], "{flag}: {log}");
        assert_eq!(world.digest(&tag("1")), world.digest(&tag("2")), "{flag}");
        let store = Path::new(two.split_once('=').unwrap().1);
        assert_eq!(blobs(store), 0, "{flag}: nothing is fetched");
        // Only what follows the change is done, on layers that come from the repository.
        fs::write(context.join("main"), format!("changed {case}\n")).unwrap();
        let log = world.build(&context, &tag("3"), &["--cache", flag, &three]);
        assert_eq!(
            split(&log).0,
            ["build 2/6", "build 3/6", "build 4/6"],
            "{flag}: {log}"
        );
        let out = format!("changed {case}\na\n");
        assert_eq!(world.tree(&tag("3"))["out"].text(), out);
    }
}

#[test]
fn what_the_cache_repository_lost_is_built_again() {
    let Some(world) = World::new() else { return };
    let context = world.context("lost");
    world.dockerfile(
        &context,
        "FROM BASE AS first\nRUN echo lost > /a\nFROM BASE\nCOPY --from=first /a /b\nRUN cat /b > /c\n",
    );
    let repo = format!("--cache-repo={}", world.image("lost-cache"));
    let flags = |store: &str| ["--cache".to_owned(), repo.clone(), elsewhere(&world, store)];
    let build = |image: &str, store: &str| {
        let flags = flags(store);
        world.build(&context, image, &flags.each_ref().map(String::as_str))
    };
    build("lost-one:1", "one");
    world.forget_blobs("lost-cache");
    let log = build("lost-two:1", "two");
    assert!(log.contains("that is not there any more"), "{log}");
    assert_eq!(world.tree("lost-two:1")["c"].text(), "lost\n");
    // It is whole again.
    let log = build("lost-three:1", "three");
    assert_eq!(split(&log).1, [""; 0], "{log}");
    assert!(!log.contains("any more"), "{log}");
}

#[test]
fn the_flags_of_the_cache_do_what_they_say() {
    let Some(world) = World::new() else { return };
    let context = world.context("flags");
    world.dockerfile(&context, "FROM BASE\nCOPY file /\nRUN echo ran > /ran\n");
    fs::write(context.join("file"), "f").unwrap();
    let repo = format!("--cache-repo={}", world.image("flags-cache"));
    let machine = std::cell::Cell::new(0);
    let build = |flags: &[&str]| {
        machine.set(machine.get() + 1);
        let store = elsewhere(&world, &format!("machine{}", machine.get()));
        let flags = [&["--cache", &repo, &store], flags].concat();
        let log = world.build(&context, "flags:1", &flags);
        split(&log).0
    };
    assert_eq!(build(&["--no-push-cache"]), [""; 0]);
    assert_eq!(build(&["--cache-copy-layers=false"]), [""; 0]);
    assert_eq!(build(&["--no-push-cache"]), ["0 3/3"], "only RUN was kept");
    build(&[]);
    assert_eq!(build(&[]), ["0 2/3", "0 3/3"]);
    assert_eq!(build(&["--cache-run-layers=false"]), [""; 0]);
    assert_eq!(build(&["--cache-ttl=0s"]), [""; 0], "all of it is too old");
    assert_eq!(build(&["--single-snapshot"]), [""; 0]);
    assert_eq!(build(&["--single-snapshot"]).len(), 2);
    let tree = world.tree("flags:1");
    assert!(tree.contains_key("ran") && tree.contains_key("file"));
    assert_eq!(world.own_layers("flags:1"), 1);
}

/// Later steps take names away; the file goes on under its further names.
#[test]
fn one_layer_of_all_steps_keeps_files_with_several_names() {
    let Some(world) = World::new() else { return };
    let context = world.context("names");
    let text = "FROM BASE\n\
        RUN echo shared > /a && ln /a /b && ln /a /c && echo old > /x && ln /x /y && mkdir /d && echo deep > /d/f && ln /d/f /e\n\
        RUN rm /a && echo new > /n && mv /n /x && rm -r /d\n";
    world.dockerfile(&context, text);
    world.build(&context, "names:1", &["--single-snapshot"]);
    let layer = world.layer("names:1", -1);
    let names: Vec<&str> = layer.keys().map(String::as_str).collect();
    assert_eq!(names, ["b", "c", "e", "x", "y"]);
    assert_eq!(layer["b"].text(), "shared\n");
    assert_eq!(layer["c"].link, "b");
    assert_eq!(layer["e"].text(), "deep\n");
    assert_eq!(layer["x"].text(), "new\n");
    assert_eq!(layer["y"].text(), "old\n");
}

/// What a step removed of the base stays removed, whatever later steps put there.
#[test]
fn one_layer_of_all_steps_hides_what_they_removed() {
    let Some(world) = World::new() else { return };
    let context = world.context("hidden");
    let below = "FROM BASE\nRUN mkdir /d /e && echo x > /d/x && echo x > /e/x\n";
    world.dockerfile(&context, below);
    world.build(&context, "below:1", &[]);
    let text = format!(
        "FROM {}\nRUN rm -r /d /e && echo f > /d && ln -s /tmp /e\n\
         RUN rm /d /e && mkdir /d /e && echo n > /e/new\n",
        world.image("below:1")
    );
    fs::write(context.join("Dockerfile"), text).unwrap();
    world.build(&context, "hidden:1", &["--single-snapshot"]);
    let tree = world.tree("hidden:1");
    let below = |dir: &str| -> Vec<&str> {
        let names = tree.keys().filter_map(|path| path.strip_prefix(dir));
        names.collect()
    };
    assert_eq!(below("d/"), [""; 0]);
    assert_eq!(below("e/"), ["new"]);
}

/// Whatever a step reads is in its key.
#[test]
fn a_changed_source_is_never_a_hit() {
    let Some(world) = World::new() else { return };
    let context = world.context("keys");
    let archive = |dir: &str, text: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let file = context.join("text");
        fs::write(&file, text).unwrap();
        tar.append_path_with_name(&file, dir).unwrap();
        fs::create_dir_all(context.join(dir)).unwrap();
        fs::write(context.join(dir).join("x.tar"), tar.into_inner().unwrap()).unwrap();
    };
    let build = |text: &str| {
        world.dockerfile(&context, text);
        let log = world.build(&context, "keys:1", &[]);
        (split(&log).0.pop(), world.tree("keys:1"))
    };

    // Two archives of one name, none of which takes the place of the other.
    let text = "FROM BASE\nADD a/x.tar b/x.tar /d/\n";
    archive("a", "one");
    archive("b", "two");
    build(text);
    assert_eq!(build(text).0.as_deref(), Some("0 2/2"));
    archive("a", "changed");
    let (hit, tree) = build(text);
    assert_eq!((hit, tree["d/a"].text()), (None, "changed"));
    let text = "FROM BASE\nADD */x.tar /d/\n";
    build(text);
    archive("a", "changed again");
    let (hit, tree) = build(text);
    assert_eq!((hit, tree["d/a"].text()), (None, "changed again"));

    // A further name becomes a link to the same.
    let text = "FROM BASE\nCOPY names /\n";
    let names = context.join("names");
    fs::create_dir(&names).unwrap();
    fs::write(names.join("one"), "1").unwrap();
    fs::set_permissions(names.join("one"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::hard_link(names.join("one"), names.join("two")).unwrap();
    assert_eq!(build(text).1["two"].kind, 'h');
    fs::remove_file(names.join("two")).unwrap();
    symlink("one", names.join("two")).unwrap();
    assert_eq!(build(text).1["two"].kind, 'l');

    // The mode of a folder that is mounted.
    let text = "FROM BASE\nRUN --mount=target=/m,source=names stat -c %a /m > /mode\n";
    let mode = |mode| fs::set_permissions(&names, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    assert_eq!(build(text).1["mode"].text(), "755\n");
    mode(0o711);
    assert_eq!(build(text).1["mode"].text(), "711\n");
}

#[test]
fn builds_at_the_same_time_keep_each_others_records() {
    let Some(world) = World::new() else { return };
    let repo = format!("--cache-repo={}", world.image("together"));
    let contexts: Vec<_> = (0..4)
        .map(|number| {
            let context = world.context(&format!("together{number}"));
            world.dockerfile(&context, "FROM BASE\nCOPY file /\nRUN cat /file > /copy\n");
            fs::write(context.join("file"), format!("{number}")).unwrap();
            context
        })
        .collect();
    let build = |number: usize, round: &str| {
        let store = elsewhere(&world, &format!("{round}{number}"));
        let image = format!("together{number}:{round}");
        world.build(&contexts[number], &image, &["--cache", &repo, &store])
    };
    std::thread::scope(|scope| {
        for number in 0..contexts.len() {
            scope.spawn(move || {
                let log = build(number, "first");
                assert!(!log.contains("was not pushed"), "{log}");
            });
        }
    });
    for number in 0..contexts.len() {
        let log = build(number, "second");
        assert_eq!(split(&log).0.len(), 2, "{number}: {log}");
    }
}

#[test]
fn a_cache_that_cannot_be_pushed_to_is_found_before_the_build() {
    let Some(world) = World::new() else { return };
    let context = world.context("refused");
    world.dockerfile(&context, "FROM BASE\nRUN echo ran > /ran\n");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let repo = format!("--cache-repo={}/cache", closed.local_addr().unwrap());
    drop(closed);
    let output = world.try_build(&context, "refused:1", &["--cache", &repo]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(!log.contains("[0 1/2]"), "before the first step: {log}");
    assert!(
        log.contains("with --cache-repo, or build with --no-push-cache"),
        "{log}"
    );
}

/// inputs.md 1: a command sees the checkout at its own path, so what is in it belongs to the key.
#[test]
fn a_changed_checkout_is_never_taken_for_the_old_one() {
    let Some(world) = World::new() else { return };
    let context = world.context("checkout");
    let text = "FROM BASE AS dependencies\nARG DIR\nWORKDIR $DIR\nRUN cat state >> made\n\
        FROM BASE\nARG DIR\nCOPY --from=dependencies $DIR/made /made\n";
    world.dockerfile(&context, text);
    let dir = format!("--build-arg=DIR={}", context.display());
    let build = |tag: &str| world.build(&context, tag, &[&dir]);
    fs::write(context.join("state"), "one\n").unwrap();
    build("checkout:1");
    let log = build("checkout:2");
    assert_eq!(split(&log).1, [""; 0], "{log}");
    fs::write(context.join("state"), "two\n").unwrap();
    build("checkout:3");
    assert_eq!(world.tree("checkout:3")["made"].text(), "two\n");
    // The command's layer is there, what it left in the checkout is not: it runs again.
    world.dockerfile(&context, &text.replace("/made /made", "/made /again"));
    build("checkout:4");
    assert_eq!(world.tree("checkout:4")["again"].text(), "two\n");
}

/// Where the image has its own directory at the path of the context, the context does not count.
#[test]
fn a_workspace_that_is_copied_is_cached_as_anywhere_else() {
    let Some(world) = World::new() else { return };
    let context = world.context("workspace");
    world.dockerfile(
        &context,
        &format!(
            "FROM BASE\nWORKDIR {}\nCOPY list .\nRUN cat list > installed\nCOPY . .\n",
            context.display()
        ),
    );
    fs::write(context.join("list"), "a\n").unwrap();
    fs::write(context.join("main"), "1\n").unwrap();
    world.build(&context, "workspace:1", &[]);
    fs::write(context.join("main"), "2\n").unwrap();
    let log = world.build(&context, "workspace:2", &[]);
    assert_eq!(split(&log).0.len(), 3, "{log}");
}

#[test]
fn a_build_that_is_killed_leaves_a_store_that_works() {
    let Some(world) = World::new() else { return };
    let context = world.context("killed");
    fs::write(context.join("big"), vec![7; 3_000_000]).unwrap();
    world.dockerfile(
        &context,
        "FROM BASE AS build\nCOPY big /big\nRUN cp /big /b && mkdir /d && for n in 1 2 3 4 5 6 7 8 9; do cp /big /d/$n; done\n\
         FROM BASE\nCOPY --from=build /d /d\nRUN rm /d/9 && echo end > /end\n",
    );
    let store = elsewhere(&world, "killed-store");
    let (dir, image) = (context.display().to_string(), world.image("killed:1"));
    for round in 0..12_u64 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_executor"))
            .args(["-c", &dir, &store, "-d", &image])
            .env_clear()
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Any moment will do; these spread over the whole build on this and on slower machines.
        std::thread::sleep(Duration::from_millis(20 + round * round * 12));
        let _ = child.kill();
        child.wait().unwrap();
    }
    world.build(&context, "killed:2", &[&store]);
    let tree = world.tree("killed:2");
    assert_eq!(tree["d/1"].content.len(), 3_000_000);
    assert_eq!(tree["end"].text(), "end\n");
    assert!(!tree.contains_key("d/9"));
    let left = fs::read_dir(Path::new(store.split_once('=').unwrap().1).join("tmp"));
    assert_eq!(left.unwrap().count(), 0, "nothing of the killed ones stays");
    let log = world.build(&context, "killed:3", &[&store]);
    assert_eq!(split(&log).1, [""; 0], "{log}");
}

/// A copy needs names, owners and links of its base, and these are a small list in the cache.
#[test]
fn files_are_copied_onto_a_base_that_is_never_downloaded() {
    let Some(world) = World::new() else { return };
    let context = world.context("onto");
    world.dockerfile(
        &context,
        "FROM BASE\nUSER root\nCOPY --chown=root:root file /var/run/f/\n",
    );
    fs::write(context.join("file"), "1").unwrap();
    let first = elsewhere(&world, "first");
    world.build(&context, "onto:1", &["--cache", &first]);
    fs::write(context.join("file"), "2").unwrap();
    let second = elsewhere(&world, "second");
    world.build(&context, "onto:2", &["--cache", &second]);
    let tree = world.tree("onto:2");
    assert_eq!(
        tree["run/f/file"].text(),
        "2",
        "the base's link /var/run is followed"
    );
    let store = Path::new(second.split_once('=').unwrap().1);
    assert_eq!(blobs(store), 1, "the new layer and nothing else");
    assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 0);
}

/// Both forms: an OCI layout for each image, and the archive of older warmers.
#[test]
fn base_images_come_from_the_warmers_directory() {
    let Some(world) = World::new() else { return };
    let context = world.context("warm");
    world.dockerfile(&context, "FROM BASE\nRUN echo ran > /ran\n");
    let digest = world.digest("base:1");
    let bases = [("tarball", false), ("oci", true)].map(|(form, is_dir)| {
        let dir = world.context(&format!("warm-{form}"));
        world.crane_pull(form, "base:1", &dir.join(&digest));
        assert_eq!(dir.join(&digest).is_dir(), is_dir);
        dir
    });
    let hidden = world.hide_layers("base:1");
    for (number, dir) in bases.iter().enumerate() {
        let store = elsewhere(&world, &format!("warm-store{number}"));
        let warm = format!("--cache-dir={}", dir.display());
        let image = format!("warm:{number}");
        // Nothing is pushed: the registry's own copy of the base cannot be read.
        let flags = ["--cache", "--no-push", "--no-push-cache", &warm, &store];
        let output = world.try_build(&context, &image, &flags);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
    }
    drop(hidden);
}
