//! Stages that are built at the same time: what waits for what, and what is left when one fails.

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

/// A Dockerfile for kaniko may hand files from stage to stage on a volume, where no COPY says so.
#[test]
fn stages_that_name_the_same_volume_are_built_one_after_another() {
    let Some(world) = World::new() else { return };
    let (context, volume) = (world.context("handing"), world.context("on-the-way"));
    world.dockerfile(
        &context,
        "FROM BASE AS a\nRUN sleep 1; echo a > /mnt/a; echo > /a\n\
         FROM BASE AS b\nRUN cp /mnt/a /b\n\
         FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
    );
    let mounts = format!("mkdir -p /mnt\nmount --bind {} /mnt", volume.display());
    let output = world.build_in_pod((&mounts, &[]), &context, "handing:1");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(world.tree("handing:1")["b"].text(), "a\n");
}
