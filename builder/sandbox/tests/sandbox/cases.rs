//! What a step sees, does and leaves.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use kiln_sandbox::upper::Kind;
use kiln_sandbox::{
    Access, Bind, Error, ExecProblem, Exit, Network, Root, Rung, Tmpfs, User, ladder,
};

use crate::bench::{Bench, MERGED, changes, entry, kinds, run_on, upper_of};
use crate::pods::Pod;
use crate::processes;
use crate::suite::Outcome;

type Case = fn(&Bench) -> Outcome;

/// Cases with their names.
macro_rules! named {
    ($($path:path),+ $(,)?) => { &[$((stringify!($path), $path as Case)),+] };
}

/// Cases for every pod.
pub const EVERYWHERE: &[(&str, Case)] = named![
    the_ladder_explains_itself,
    processes::in_place_runs_in_the_own_root_and_kills_what_is_left,
    processes::chroot_sees_only_its_directory,
];

/// Cases for pods that allow a user namespace.
pub const NAMESPACED: &[(&str, Case)] = named![
    output_and_exit_are_passed_on,
    a_signal_is_reported,
    much_output_arrives_whole,
    the_command_has_the_asked_identity,
    nothing_of_the_callers_environment_is_there,
    a_new_file_is_the_only_change,
    removals_are_whiteouts,
    a_replaced_directory_is_opaque,
    hard_links_are_found_and_whiteouts_are_none,
    an_upper_is_the_next_steps_lower,
    a_used_upper_is_refused,
    owners_are_as_the_pod_sees_them,
    a_volume_behind_a_link_is_there_and_not_in_the_layer,
    network_files_follow_the_images_links,
    hidden_paths_cannot_be_seen,
    binds_and_tmpfs,
    devices_and_system_trees,
    a_step_without_network_has_only_loopback,
    what_cannot_be_executed_is_named,
    a_working_directory_is_made_and_a_file_in_its_place_is_named,
    the_command_cannot_mount,
    a_directory_is_changed_directly,
    many_layers_and_long_paths,
    a_failed_preparation_names_the_call,
    four_steps_at_once,
    time_of_one_step,
    processes::background_processes_die_with_the_step,
    processes::cancelling_kills_everything,
    processes::a_used_handle_cancels_at_once,
    processes::a_killed_caller_takes_its_step_along,
];

fn the_ladder_explains_itself(bench: &Bench) -> Outcome {
    let store = bench.directory("store");
    let ladder = ladder::probe(&store, None).expect("probe");
    let reasons: String = ladder
        .tried
        .iter()
        .map(|(rung, why)| format!("{rung}: {why}\n"))
        .collect();
    if bench.pod == Pod::RuntimeDefault {
        assert!(ladder.chosen > Rung::UserNamespace, "{ladder:?}");
        assert!(reasons.contains("userns: unshare the user"), "{reasons}");
        assert!(
            reasons.contains("seccompProfile: {type: Unconfined}"),
            "{reasons}"
        );
        let forced = ladder::probe(&store, Some(Rung::UserNamespace)).expect_err("forbidden");
        assert!(
            forced
                .to_string()
                .starts_with("isolation userns is not possible here")
        );
    } else if bench.pod == Pod::UserNamespaced {
        assert_eq!(ladder.chosen, Rung::UserNamespacedPod, "{reasons}");
        assert!(ladder.tried.is_empty(), "{reasons}");
        let forced = ladder::probe(&store, Some(Rung::UserNamespace)).expect("nested");
        assert_eq!(forced.chosen, Rung::UserNamespace);
    } else {
        assert_eq!(ladder.chosen, Rung::UserNamespace, "{reasons}");
        assert!(reasons.contains("hostUsers: false"), "{reasons}");
    }
    let left = fs::read_dir(&store).expect("list").count();
    assert_eq!(left, 0, "the probe leaves nothing in the store");
    Outcome::Passed
}

fn output_and_exit_are_passed_on(bench: &Bench) -> Outcome {
    let said = bench
        .try_run(&bench.script("echo out; echo err >&2; exit 3"))
        .expect("the step runs");
    assert_eq!(said.exit, Exit::Code(3));
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        ("out\n", "err\n")
    );
    Outcome::Passed
}

fn a_signal_is_reported(bench: &Bench) -> Outcome {
    let said = bench
        .try_run(&bench.script("kill -9 $$"))
        .expect("the step runs");
    assert_eq!(said.exit, Exit::Signal(9));
    // Not ignored, as the Rust runtime has it: `yes | head` must end.
    let said = bench
        .try_run(&bench.script("kill -PIPE $$"))
        .expect("the step runs");
    assert_eq!(said.exit, Exit::Signal(13));
    Outcome::Passed
}

fn much_output_arrives_whole(bench: &Bench) -> Outcome {
    let said = bench.run(&bench.script("head -c 3000000 /dev/zero; head -c 5 /dev/null; echo end"));
    assert_eq!(said.len(), 3_000_004);
    assert!(said.ends_with("end\n"));
    Outcome::Passed
}

fn the_command_has_the_asked_identity(bench: &Bench) -> Outcome {
    if !bench.pod.has_ids() {
        return Outcome::DoesNotApply("there is only one id".to_owned());
    }
    let mut step = bench
        .script("id -u; id -g; id -G; umask; pwd; touch /tmp/mine; stat -c %u:%g:%a /tmp/mine");
    step.process.user = User {
        uid: 1000,
        gid: 1001,
        groups: vec![5, 1002],
    };
    step.process.umask = 0o077;
    step.process.cwd = "/data/sub".into();
    assert_eq!(
        bench.run(&step),
        "1000\n1001\n1001 5 1002\n0077\n/data/sub\n1000:1001:600\n"
    );
    Outcome::Passed
}

fn nothing_of_the_callers_environment_is_there(bench: &Bench) -> Outcome {
    let mut step = bench.step(&["env"]);
    step.process.env.push(("NAME".into(), "a value".into()));
    assert_eq!(bench.run(&step), "PATH=/usr/bin:/bin\nNAME=a value\n");
    let environ = bench.script("cat /proc/1/environ");
    let said = bench.try_run(&environ).expect("the step runs");
    assert_eq!(said.stdout, "", "{}", said.stderr);
    // Standard streams, and the directory that ls itself has open.
    assert_eq!(
        bench.run(&bench.step(&["ls", "/proc/self/fd"])),
        "0\n1\n2\n3\n"
    );
    Outcome::Passed
}

fn a_new_file_is_the_only_change(bench: &Bench) -> Outcome {
    let mut step = bench.script("echo new > /work/file");
    // Mount points that the base does not have are no changes.
    let volume = bench.directory("volume");
    step.binds = vec![
        Bind::writable(&volume, "/not/in/the/base"),
        Bind::read_only("/etc/hosts", "/etc/hosts"),
    ];
    bench.run(&step);
    assert_eq!(
        kinds(&step),
        [entry("work", MERGED), entry("work/file", Kind::File)]
    );
    let made = fs::read_to_string(upper_of(&step).join("work/file")).expect("read");
    assert_eq!(made, "new\n");
    assert!(!bench.base().join("work/file").exists());
    let Root::Overlay { scratch, .. } = &step.root else {
        panic!("an overlay");
    };
    assert_eq!(fs::read_dir(scratch).expect("list").count(), 0);
    Outcome::Passed
}

fn removals_are_whiteouts(bench: &Bench) -> Outcome {
    let step = bench.script("rm /etc/issue; rm -r /data");
    bench.run(&step);
    assert_eq!(
        kinds(&step),
        [
            entry("data", Kind::Whiteout),
            entry("etc", MERGED),
            entry("etc/issue", Kind::Whiteout)
        ]
    );
    Outcome::Passed
}

fn a_replaced_directory_is_opaque(bench: &Bench) -> Outcome {
    let step = bench.script("rm -r /data; mkdir /data; echo > /data/new");
    bench.run(&step);
    assert_eq!(
        kinds(&step),
        [
            entry("data", Kind::Directory { opaque: true }),
            entry("data/new", Kind::File)
        ]
    );
    let attributes = changes(&step).into_iter().flat_map(|change| change.xattrs);
    assert_eq!(attributes.count(), 0, "the overlay's own are not told");
    Outcome::Passed
}

fn hard_links_are_found_and_whiteouts_are_none(bench: &Bench) -> Outcome {
    let step = bench.script(
        "rm /etc/issue /data/sub/file; cd /work; echo x > b; ln b a; ln -s b link; ln b /tmp/c",
    );
    bench.run(&step);
    let first = |path: &str| Kind::HardLink { first: path.into() };
    assert_eq!(
        kinds(&step),
        [
            entry("data", MERGED),
            entry("data/sub", MERGED),
            entry("data/sub/file", Kind::Whiteout),
            entry("etc", MERGED),
            entry("etc/issue", Kind::Whiteout),
            entry("tmp", MERGED),
            entry("tmp/c", Kind::File),
            entry("work", MERGED),
            entry("work/a", first("tmp/c")),
            entry("work/b", first("tmp/c")),
            entry("work/link", Kind::Symlink { target: "b".into() }),
        ]
    );
    Outcome::Passed
}

fn an_upper_is_the_next_steps_lower(bench: &Bench) -> Outcome {
    let first = bench.script("rm /etc/issue; echo 1 > /work/one");
    bench.run(&first);
    let mut second = bench.script("ls /etc; cat /work/one; echo 2 > /work/two");
    second.root = bench.overlay_on(vec![upper_of(&first), bench.base()]);
    assert_eq!(bench.run(&second), "resolv.conf\n1\n");
    assert_eq!(
        kinds(&second),
        [entry("work", MERGED), entry("work/two", Kind::File)]
    );
    Outcome::Passed
}

fn a_used_upper_is_refused(bench: &Bench) -> Outcome {
    let first = bench.script("echo 1 > /work/one");
    bench.run(&first);
    let mut second = bench.script("true");
    second.root = first.root.clone();
    let error = bench.try_run(&second).expect_err("not empty");
    assert!(error.to_string().contains("is not empty"), "{error}");
    Outcome::Passed
}

fn owners_are_as_the_pod_sees_them(bench: &Bench) -> Outcome {
    if !bench.pod.is_root() {
        return Outcome::DoesNotApply("ids inside are others outside".to_owned());
    }
    // Such a pod has 65536 ids; elsewhere there are as many as the machine has.
    let group = if bench.pod == Pod::UserNamespaced {
        65534
    } else {
        70000
    };
    let script = format!("cd /work; touch f; chown 65533:{group} f; chmod 4711 f");
    let step = bench.script(&script);
    bench.run(&step);
    let found = fs::metadata(upper_of(&step).join("work/f")).expect("stat");
    assert_eq!((found.uid(), found.gid()), (65533, group));
    assert_eq!(found.mode() & 0o7777, 0o4711);
    Outcome::Passed
}

fn a_volume_behind_a_link_is_there_and_not_in_the_layer(bench: &Bench) -> Outcome {
    let volume = bench.directory("volume");
    fs::write(volume.join("given"), "given\n").expect("write");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut step = bench.script("cat /var/run/x/given /run/x/given; echo back > /var/run/x/answer");
    step.binds = vec![Bind::writable(&volume, "/var/run/x")];
    // The same path inside as outside, as the pod's own volumes are.
    step.volumes = vec![volume.clone()];
    assert_eq!(bench.run(&step), "given\ngiven\n");
    assert_eq!(kinds(&step), []);
    let answer = fs::read_to_string(volume.join("answer")).expect("read");
    assert_eq!(answer, "back\n");
    let mut step = bench.step(&["cat"]);
    step.process.argv.push(volume.join("answer").into());
    step.volumes = vec![volume];
    assert_eq!(bench.run(&step), "back\n");
    Outcome::Passed
}

fn network_files_follow_the_images_links(bench: &Bench) -> Outcome {
    let file = bench.directory("files").join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").expect("write");
    let mut step =
        bench.script("cat /etc/resolv.conf /run/resolve/stub.conf; [ -L /etc/resolv.conf ]");
    step.binds = vec![Bind::writable(&file, "/etc/resolv.conf")];
    assert_eq!(
        bench.run(&step),
        "nameserver 192.0.2.1\nnameserver 192.0.2.1\n"
    );
    assert_eq!(kinds(&step), []);
    Outcome::Passed
}

fn hidden_paths_cannot_be_seen(bench: &Bench) -> Outcome {
    let volume = bench.directory("volume");
    for directory in ["docker", "open", "gone"] {
        fs::create_dir(volume.join(directory)).expect("mkdir");
        fs::write(volume.join(directory).join("file"), "secret\n").expect("write");
    }
    std::os::unix::fs::symlink("open/file", volume.join("key.json")).expect("symlink");
    let mut step = bench.script(
        "cd /v; ls docker gone; cat open/file key.json; \
         umount /v/docker 2>/dev/null; umount -l /v/open/file 2>/dev/null; \
         ls docker; cat open/file; echo end",
    );
    step.volumes = vec![volume.join("gone")];
    step.binds = vec![Bind::writable(&volume, "/v")];
    // One through a link: what it leads to is hidden.
    step.hidden = vec![
        volume.join("docker"),
        volume.join("key.json"),
        volume.join("gone"),
    ];
    assert_eq!(bench.run(&step), "docker:\n\ngone:\nend\n");
    assert_eq!(kinds(&step), []);
    // The volume at its own path is not bound at all.
    step.binds.clear();
    step.process.argv[2] = format!("ls {}", volume.join("gone").display()).into();
    let said = bench.try_run(&step).expect("the step runs");
    assert_eq!(said.exit, Exit::Code(1));
    assert!(said.stderr.contains("No such file"), "{said:?}");
    Outcome::Passed
}

fn binds_and_tmpfs(bench: &Bench) -> Outcome {
    let source = bench.directory("source");
    fs::write(source.join("file"), "content\n").expect("write");
    let mut step = bench.script(
        "echo x > /ro/new; echo x >> /one; cat /ro/file /one /t/deep/file; stat -c %a /t; ls /t; touch /t/new",
    );
    step.tmpfs = vec![Tmpfs {
        target: "/t".into(),
        size: Some(1 << 20),
        access: Access::ReadWrite,
        mode: 0o1777,
    }];
    step.binds = vec![
        Bind::read_only(&source, "/ro"),
        Bind::read_only(source.join("file"), "/one"),
        Bind::writable(&source, "/t/deep"),
    ];
    let said = bench.try_run(&step).expect("the step runs");
    assert_eq!(said.stdout, "content\ncontent\ncontent\n1777\ndeep\n");
    assert_eq!(
        said.stderr.matches("Read-only file system").count(),
        2,
        "{said:?}"
    );
    assert_eq!(kinds(&step), []);
    Outcome::Passed
}

fn devices_and_system_trees(bench: &Bench) -> Outcome {
    let mut step = bench.script(
        "head -c 2 /dev/zero | cat -v; echo; echo x > /dev/null; head -c 1 /dev/urandom > /dev/shm/r; \
         ls /dev; cat /proc/self/comm; hostname; \
         echo 1 2>/dev/null > /proc/sys/kernel/panic || echo read-only; \
         mkdir /sys/x 2>/dev/null || echo read-only; cat /proc/kcore; echo >/dev/stdout",
    );
    step.hostname = Some("buildkitsandbox".to_owned());
    assert_eq!(
        bench.run(&step),
        "^@^@\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n\
         cat\nbuildkitsandbox\nread-only\nread-only\n\n"
    );
    assert_eq!(kinds(&step), []);
    Outcome::Passed
}

fn a_step_without_network_has_only_loopback(bench: &Bench) -> Outcome {
    let mut step = bench.script("ip -o link; ip -o addr show dev lo");
    step.network = Network::None;
    let said = bench.run(&step);
    let devices: Vec<&str> = said.lines().filter(|line| line.contains("link/")).collect();
    assert_eq!(devices.len(), 1, "{said}");
    assert!(devices[0].contains("lo: <LOOPBACK,UP"), "{said}");
    assert!(said.contains("127.0.0.1/8"), "{said}");
    Outcome::Passed
}

fn problem(bench: &Bench, layer: &Path, program: &str) -> ExecProblem {
    let mut step = bench.step(&[program]);
    step.root = bench.overlay_on(vec![layer.to_path_buf(), bench.base()]);
    match bench.try_run(&step) {
        Err(Error::Exec {
            program: named,
            problem,
        }) => {
            assert_eq!(named, program);
            problem
        }
        other => panic!("{program}: {other:?}"),
    }
}

fn what_cannot_be_executed_is_named(bench: &Bench) -> Outcome {
    let layer = bench.directory("layer");
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o755)).expect("chmod");
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = layer.join(name);
        fs::write(&path, content).expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    // An ELF header for IBM Z, big-endian, where no other is executable.
    let mut elf = b"\x7fELF\x02\x02\x01".to_vec();
    elf.resize(64, 0);
    elf[17] = 2;
    elf[19] = 0x16;
    file("foreign", &elf, 0o755);
    file("script", b"#!/opt/python\n", 0o755);
    file("plain", b"just text\n", 0o755);
    file("sealed", b"#!/bin/sh\n", 0o644);
    assert_eq!(problem(bench, &layer, "nonesuch"), ExecProblem::NotFound);
    assert_eq!(problem(bench, &layer, "/no/such"), ExecProblem::NotFound);
    assert_eq!(
        problem(bench, &layer, "/script"),
        ExecProblem::InterpreterNotFound
    );
    assert_eq!(problem(bench, &layer, "/plain"), ExecProblem::NotExecutable);
    assert_eq!(
        problem(bench, &layer, "/sealed"),
        ExecProblem::PermissionDenied
    );
    assert_eq!(
        problem(bench, &layer, "/etc"),
        ExecProblem::PermissionDenied
    );
    assert_eq!(
        problem(bench, &layer, "/foreign"),
        ExecProblem::WrongArchitecture {
            machine: "s390x".to_owned()
        }
    );
    Outcome::Passed
}

fn a_working_directory_is_made_and_a_file_in_its_place_is_named(bench: &Bench) -> Outcome {
    let mut step = bench.script("pwd");
    step.process.cwd = "/nowhere/yet".into();
    assert_eq!(bench.run(&step), "/nowhere/yet\n");
    let mut step = bench.step(&["true"]);
    step.process.cwd = "/bin/sh/x".into();
    let error = bench.try_run(&step).expect_err("no directory");
    assert_eq!(
        error.to_string(),
        "cannot enter the working directory /bin/sh/x"
    );
    Outcome::Passed
}

fn the_command_cannot_mount(bench: &Bench) -> Outcome {
    let said = bench
        .try_run(&bench.script("mount -t tmpfs none /tmp; cat /proc/self/status"))
        .expect("the step runs");
    assert!(
        said.stderr.contains("ermission denied") || said.stderr.contains("not permitted"),
        "{said:?}"
    );
    // Docker's default set.
    assert!(
        said.stdout.contains("CapBnd:\t00000000a80425fb\n"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("CapEff:\t00000000a80425fb\n"),
        "{}",
        said.stdout
    );
    Outcome::Passed
}

fn a_directory_is_changed_directly(bench: &Bench) -> Outcome {
    let copy = bench.directory("copy");
    fs::create_dir(copy.join("bin")).expect("mkdir");
    fs::copy(bench.base().join("bin/busybox"), copy.join("bin/busybox")).expect("copy");
    let mut step = bench.step(&["/bin/busybox", "touch", "/made"]);
    step.root = Root::Directory(copy.clone());
    bench.run(&step);
    assert!(copy.join("made").exists());
    Outcome::Passed
}

fn many_layers_and_long_paths(bench: &Bench) -> Outcome {
    let mut deep = bench.directory("layers");
    // Past the 256 bytes of a mount parameter, with the characters that have a meaning in one.
    for part in ["a:b,c\\d", &"x".repeat(120), &"y".repeat(120)] {
        deep.push(part);
        fs::create_dir(&deep).expect("mkdir");
    }
    let mut lowers: Vec<PathBuf> = (0..120)
        .map(|number| {
            let layer = deep.join(number.to_string());
            fs::create_dir(&layer).expect("mkdir");
            fs::write(layer.join("top"), format!("{number}\n")).expect("write");
            fs::write(layer.join(format!("in-{number}")), "").expect("write");
            layer
        })
        .collect();
    lowers.push(bench.base());
    let mut step = bench
        .script("cat /top; ls / | cat | while read f; do case $f in in-*) echo $f;; esac; done");
    step.root = bench.overlay_on(lowers);
    let said = bench.run(&step);
    assert!(
        said.starts_with("0\n"),
        "the first lower is the topmost: {said}"
    );
    assert_eq!(said.lines().count(), 121);
    Outcome::Passed
}

fn a_failed_preparation_names_the_call(bench: &Bench) -> Outcome {
    let mut step = bench.step(&["true"]);
    step.binds = vec![Bind::writable("/no/such/volume", "/v")];
    let error = bench.try_run(&step).expect_err("no such source");
    assert_eq!(
        error.to_string(),
        "sandbox: clone the tree /no/such/volume: No such file or directory (os error 2)"
    );
    Outcome::Passed
}

fn four_steps_at_once(bench: &Bench) -> Outcome {
    let steps: Vec<_> = (0..4)
        .map(|number| bench.script(&format!("echo {number} > /work/file; cat /work/file")))
        .collect();
    let rung = bench.pod.rung();
    let said: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = steps
            .iter()
            .map(|step| scope.spawn(move || run_on(rung, step).expect("the step runs").stdout))
            .collect();
        running
            .into_iter()
            .map(|step| step.join().expect("no panic"))
            .collect()
    });
    assert_eq!(said, ["0\n", "1\n", "2\n", "3\n"]);
    Outcome::Passed
}

/// Not a judgement: machines differ. The figure is for whoever changes the sandbox.
fn time_of_one_step(bench: &Bench) -> Outcome {
    let files = bench.directory("network");
    let mut times: Vec<_> = (0..15)
        .map(|_| {
            let mut step = bench.step(&["true"]);
            step.binds = Bind::network_files(&files).expect("the files of the network");
            let began = Instant::now();
            bench.run(&step);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "{}: /bin/true takes {:?}",
        bench.pod.name(),
        times[times.len() / 2]
    );
    Outcome::Passed
}
