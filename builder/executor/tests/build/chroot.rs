//! `--isolation=chroot`: what a command sees there and what is kept from it.

use std::fs;
use std::path::Path;

use crate::world::World;

const CHROOT: &str = "--isolation=chroot";

fn world() -> Option<World> {
    if !rustix::process::geteuid().is_root() {
        return crate::world::skip("not root");
    }
    World::new()
}

#[test]
fn a_chroot_has_devices_and_a_copy_of_the_context_that_the_stage_keeps() {
    let Some(world) = world() else { return };
    let context = world.context("chroot");
    fs::write(context.join("input"), "from the context\n").unwrap();
    let dir = context.display();
    world.dockerfile(
        &context,
        &format!(
            "FROM BASE AS work\n\
             RUN echo lost > /dev/null && head -c 3 /dev/zero | wc -c > /zeros && cat {dir}/input > /seen\n\
             RUN echo made >> {dir}/input && echo new > {dir}/new\n\
             RUN cat {dir}/input > /again && test -s /etc/resolv.conf\n\
             FROM BASE\nCOPY --from=work /zeros /seen /again {dir}/new /\n"
        ),
    );
    let log = world.build(&context, "chroot:1", &[CHROOT]);
    assert!(log.contains("isolation of RUN: chroot\n"), "{log}");
    assert!(log.contains("RUN sees no /proc and no /sys"), "{log}");
    let tree = world.tree("chroot:1");
    assert_eq!(tree["zeros"].text(), "3\n");
    assert_eq!(tree["seen"].text(), "from the context\n");
    assert_eq!(tree["again"].text(), "from the context\nmade\n");
    assert_eq!(tree["new"].text(), "new\n");
    assert_eq!(
        fs::read_to_string(context.join("input")).unwrap(),
        "from the context\n",
        "the checkout stays as it was"
    );

    // Commands add nothing but what they made.
    world.dockerfile(
        &context,
        &format!("FROM BASE\nRUN cat {dir}/input > /out && echo x > /dev/shm/x\n"),
    );
    world.build(&context, "chroot:2", &[CHROOT]);
    let layer = world.layer("chroot:2", -1);
    assert_eq!(layer.keys().collect::<Vec<_>>(), ["out"]);
}

#[test]
fn where_the_image_has_files_at_the_contexts_path_a_chroot_uses_those() {
    let Some(world) = world() else { return };
    let context = world.context("chroot-own");
    fs::write(context.join("input"), "input\n").unwrap();
    let dir = context.display();
    world.dockerfile(
        &context,
        &format!("FROM BASE\nWORKDIR {dir}\nCOPY input .\nRUN cp input output && ls > /names\n"),
    );
    world.build(&context, "chroot-own:1", &[CHROOT]);
    let tree = world.tree("chroot-own:1");
    assert_eq!(tree["names"].text(), "input\noutput\n");
    let output = context.join("output");
    let inside = output.strip_prefix("/").unwrap().display().to_string();
    assert_eq!(tree[&inside].text(), "input\n", "it is in the layer");
    assert!(!output.exists());
}

#[test]
fn a_command_cannot_leave_its_chroot_and_ends_with_the_step() {
    let Some(world) = world() else { return };
    let context = world.context("chroot-inside");
    let secret = world.store().parent().unwrap().join("outside");
    fs::write(&secret, "outs1de").unwrap();
    world.dockerfile(
        &context,
        &format!(
            "FROM BASE\n\
             RUN cat {} /../..{} > /seen 2>&1; ! chroot / true && mkdir /in && ! chroot /in /true\n\
             RUN sleep 86413 & echo started > /started\n",
            secret.display(),
            secret.display()
        ),
    );
    world.build(&context, "chroot-inside:1", &[CHROOT]);
    let tree = world.tree("chroot-inside:1");
    assert!(!tree["seen"].text().contains("outs1de"));
    assert_eq!(tree["started"].text(), "started\n");
    assert!(!runs("86413"), "the background process is gone");
}

#[test]
fn a_cache_in_a_chroot_is_there_in_the_next_build_and_in_no_layer() {
    let Some(world) = world() else { return };
    let context = world.context("chroot-cache");
    for (number, expected) in [("1", "0\n"), ("2", "1\n"), ("3", "2\n")] {
        world.dockerfile(
            &context,
            &format!(
                "FROM BASE\nRUN --mount=type=cache,id=chroot,target=/of/all/builds \
                 ls /of/all/builds | wc -l > /found; \
                 mkdir /of/all/builds/{number} && echo {number} > /of/all/builds/{number}/file\n"
            ),
        );
        let name = format!("chroot-cache:{number}");
        world.build(&context, &name, &[CHROOT]);
        let tree = world.tree(&name);
        assert_eq!(tree["found"].text(), expected);
        assert!(!tree.contains_key("of"), "the mount point stays out");
    }
}

#[test]
fn what_needs_mounts_is_refused_by_name_in_a_chroot() {
    let Some(world) = world() else { return };
    let context = world.context("chroot-refused");
    for (line, what) in [
        ("RUN --mount=type=tmpfs,target=/t true", "a tmpfs on /t"),
        ("RUN --network=none true", "a command without network"),
    ] {
        world.dockerfile(&context, &format!("FROM BASE\n{line}\n"));
        let output = world.try_build(&context, "chroot-refused:1", &[CHROOT]);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("error: Dockerfile:2: "), "{line}: {log}");
        assert!(log.contains(what), "{line}: {log}");
        assert!(
            log.contains("is not possible with the isolation chroot"),
            "{line}: {log}"
        );
    }
}

/// Whether a process with this argument runs.
fn runs(argument: &str) -> bool {
    let processes = fs::read_dir(Path::new("/proc")).unwrap().flatten();
    processes.into_iter().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    })
}
