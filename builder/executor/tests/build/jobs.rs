//! Stages that are built at the same time: what waits for what, and what is left when one fails.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use crate::world::World;

/// Says that it is here, and waits for the other one, in a cache that both see; a minute at most.
fn meets(own: &str, other: &str) -> String {
    format!(
        "RUN --mount=type=cache,target=/meet touch /meet/{own} && for i in $(seq 600); do \
         test -e /meet/{other} && exit 0; sleep 0.1; done; exit 9\n"
    )
}

#[test]
fn stages_are_built_at_the_same_time_as_far_as_they_need_nothing_of_each_other() {
    let Some(world) = World::new() else { return };
    let context = world.context("meeting");
    let mut text = String::new();
    for (own, other) in [("a", "b"), ("b", "c")] {
        text += &format!("FROM BASE AS {own}\n{}", meets(own, other));
        text += &format!("RUN echo {own} > /{own}\n");
    }
    // The target begins before what it copies from is done.
    text += &format!("FROM BASE\n{}", meets("c", "a"));
    text += "COPY --from=a /a /\nCOPY --from=b /b /\n";
    world.dockerfile(&context, &text);
    let log = world.build(&context, "meeting:1", &["--jobs=3"]);
    let tree = world.tree("meeting:1");
    assert_eq!((tree["a"].text(), tree["b"].text()), ("a\n", "b\n"));
    let last = world.layer("meeting:1", -1);
    assert_eq!(last.keys().collect::<Vec<_>>(), ["b"], "in their order");
    assert!(log.contains("[a 3/3] RUN echo a > /a"), "{log}");
}

#[test]
fn with_one_job_a_stage_begins_when_the_one_before_is_done() {
    let Some(world) = World::new() else { return };
    let context = world.context("alone");
    world.dockerfile(
        &context,
        "FROM BASE AS a\nRUN --mount=type=cache,target=/c sleep 1; touch /c/a; echo a > /a\n\
         FROM BASE AS b\nRUN --mount=type=cache,target=/c ls /c > /b\n\
         FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
    );
    world.build(&context, "alone:1", &["--jobs=1"]);
    assert_eq!(world.tree("alone:1")["b"].text(), "a\n");
    for wrong in ["0", "-1", "two", ""] {
        let output = world.try_build(&context, "alone:2", &[&format!("--jobs={wrong}")]);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(
            log.contains(&format!("--jobs={wrong}: expected a number of stages")),
            "{log}"
        );
    }
}

/// With two jobs: while `a` runs, what is based on it waits, and `b` has the other turn.
#[test]
fn a_stage_that_waits_takes_nobodys_turn() {
    let Some(world) = World::new() else { return };
    let context = world.context("turns");
    let (a, b) = (meets("a", "b"), meets("b", "a"));
    world.dockerfile(
        &context,
        &format!(
            "FROM BASE AS a\n{a}RUN touch /a\nFROM a AS above\nRUN touch /above\n\
             FROM BASE AS copies\nRUN touch /copies\nCOPY --from=above /above /\n\
             FROM BASE AS b\n{b}RUN touch /b\n\
             FROM scratch\nCOPY --from=copies / /\nCOPY --from=b /b /\n"
        ),
    );
    world.build(&context, "turns:1", &["--jobs=2"]);
    assert!(world.tree("turns:1").contains_key("above"));
}

/// What fails is what is said, and the commands of other stages end with it.
#[test]
fn a_stage_that_fails_ends_the_others() {
    let Some(world) = World::new() else { return };
    let context = world.context("failing");
    world.dockerfile(
        &context,
        "FROM BASE AS slow\nRUN --mount=type=cache,target=/c touch /c/here; \
         for i in $(seq 600); do sleep 0.1; done; echo all was waited\n\
         FROM BASE AS wrong\nRUN --mount=type=cache,target=/c \
         for i in $(seq 600); do test -e /c/here && exit 41; sleep 0.1; done\n\
         FROM wrong AS never\nRUN echo never\n\
         FROM scratch\nCOPY --from=slow / /\nCOPY --from=never / /\n",
    );
    let output = world.try_build(&context, "failing:1", &["--jobs=4"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(41), "{log}");
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    let [error] = errors[..] else {
        panic!("{log}");
    };
    assert!(error.starts_with("error: Dockerfile:4: RUN"), "{error}");
    assert!(log.contains("[slow 2/2] stopped in "), "{log}");
    assert!(!log.contains("   never"), "{log}");
}

/// Another build has the cache and keeps it; a server has taken the request and says nothing.
#[test]
fn what_waits_ends_when_a_stage_fails() {
    let Some(world) = World::new() else { return };
    let (holder, context) = (world.context("holder"), world.context("waiting"));
    let cache = "--mount=type=cache,sharing=locked,id=held,target=/c";
    let told = world.context("told");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    world.dockerfile(
        &holder,
        &format!("FROM BASE\nRUN {cache} --mount=type=cache,id=said,target=/said touch /said/x; sleep 300\n"),
    );
    world.dockerfile(
        &context,
        &format!(
            "FROM BASE AS a\nRUN {cache} echo never > /a\n\
             FROM BASE AS b\nADD http://{address}/f /b\n\
             FROM BASE AS wrong\nRUN sleep 1; exit 43\n\
             FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=wrong / /\n"
        ),
    );
    let mut other = world.start_build(&holder, "holder:1", &told.join("log"));
    let caches = world.store().join("caches");
    while !fs::read_dir(&caches).is_ok_and(|caches| {
        let mut paths = caches.map(|cache| cache.unwrap().path());
        paths.any(|path| path.join("x").exists())
    }) {
        assert!(other.try_wait().unwrap().is_none(), "the holder ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = world.try_build(&context, "waiting:1", &["--jobs=4"]);
    let is_held = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(43), "{log}");
    assert!(is_held, "the other build has the cache still: {log}");
    for stage in ["a", "b"] {
        assert!(log.contains(&format!("[{stage} 2/2] stopped in ")), "{log}");
    }
}

/// One command that wants a cache twice has it for itself when one of the two says so.
#[test]
fn the_stricter_word_about_a_cache_counts() {
    let Some(world) = World::new() else { return };
    let context = world.context("stricter");
    let mut text = String::new();
    for stage in ["a", "b"] {
        text += &format!(
            "FROM BASE AS {stage}\nRUN --mount=type=cache,id=q,target=/x \
             --mount=type=cache,id=q,target=/y,sharing=locked \
             mkdir /y/alone && sleep 1 && rmdir /y/alone && touch /{stage}\n"
        );
    }
    text += "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    world.dockerfile(&context, &text);
    world.build(&context, "stricter:1", &["--jobs=2"]);
}

/// Each command has one of the two caches, and wants the other one.
#[test]
fn caches_that_two_stages_want_in_another_order_are_no_deadlock() {
    let Some(world) = World::new() else { return };
    let context = world.context("crossing");
    let mount = |name| format!("--mount=type=cache,sharing=locked,target=/{name}");
    let mut text = String::new();
    for (stage, first, second) in [("a", "x", "y"), ("b", "y", "x")] {
        text += &format!("FROM BASE AS {stage}\n");
        for number in 0..8 {
            let (first, second) = (mount(first), mount(second));
            text +=
                &format!("RUN {first} {second} echo {number} >> /x/log >> /y/log; touch /done\n");
        }
    }
    text += "FROM scratch\nCOPY --from=a /done /a\nCOPY --from=b /done /b\n";
    world.dockerfile(&context, &text);
    world.build(&context, "crossing:1", &["--jobs=2"]);
    let tree = world.tree("crossing:1");
    assert!(tree.contains_key("a") && tree.contains_key("b"));
}

/// A cache that begins with files of an image gets them once, whoever is first.
#[test]
fn a_cache_that_two_stages_begin_is_whole_for_both() {
    let Some(world) = World::new() else { return };
    let context = world.context("beginning");
    world.dockerfile(
        &context,
        "FROM BASE AS start\nRUN mkdir /s && for i in $(seq 300); do echo $i > /s/$i; done\n\
         FROM BASE AS a\nRUN --mount=type=cache,from=start,source=/s,target=/c ls /c | wc -l > /n\n\
         FROM BASE AS b\nRUN --mount=type=cache,from=start,source=/s,target=/c ls /c | wc -l > /n\n\
         FROM scratch\nCOPY --from=a /n /a\nCOPY --from=b /n /b\n",
    );
    world.build(&context, "beginning:1", &["--jobs=2"]);
    let tree = world.tree("beginning:1");
    assert_eq!((tree["a"].text(), tree["b"].text()), ("300\n", "300\n"));
}

/// A Dockerfile for kaniko may hand files from stage to stage on a volume, where no COPY says so,
/// and no line of it names the volume.
#[test]
fn where_a_pod_has_volumes_stages_are_built_one_after_another() {
    let Some(world) = World::new() else { return };
    let (context, volume) = (world.context("handing"), world.context("on-the-way"));
    world.dockerfile(
        &context,
        "FROM BASE AS a\nRUN cd /mn?; sleep 1; echo a > a; echo > /a\n\
         FROM BASE AS b\nRUN cd /mn?; cp a /b\n\
         FROM scratch\nCOPY --from=b /b /\nCOPY --from=a /a /\n",
    );
    let mounts = format!("mkdir -p /mnt\nmount --bind {} /mnt", volume.display());
    let output = world.build_in_pod((&mounts, &[]), &context, "handing:1");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(world.tree("handing:1")["b"].text(), "a\n");
}
