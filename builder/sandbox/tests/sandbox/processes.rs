//! What becomes of processes: background ones, cancelled ones, those of a killed caller.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kiln_sandbox::{Cancel, Error, Exit, Process, Root, Rung, Step, Stream, run};

use crate::bench::{Bench, run_on};
use crate::pods::Pod;
use crate::suite::Outcome;

/// How many processes have this word among their arguments. The word is fresh for each case, and
/// is never an argument of the tests themselves.
fn count_with(word: &str) -> usize {
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|arg| arg == word.as_bytes())
        })
        .count()
}

/// A number of seconds to sleep for that no other test uses.
fn fresh_word(case: u32) -> String {
    format!("{}{case}", 100_000_000 + std::process::id())
}

pub fn background_processes_die_with_the_step(bench: &Bench) -> Outcome {
    let word = fresh_word(1);
    let step = bench.script(&format!(
        "sleep {word} & (setsid sleep {word} &) ; echo done"
    ));
    assert_eq!(bench.run(&step), "done\n");
    assert_eq!(count_with(&word), 0);
    Outcome::Passed
}

fn cancel_when_it_speaks(rung: Rung, step: &Step) -> Result<Exit, Error> {
    let cancel = Cancel::new().expect("eventfd");
    let other_thread = cancel.clone();
    run(rung, step, &cancel, &mut |stream, _| {
        if stream == Stream::Stdout {
            let cancel = other_thread.clone();
            thread::spawn(move || cancel.cancel())
                .join()
                .expect("cancel");
        }
    })
}

pub fn cancelling_kills_everything(bench: &Bench) -> Outcome {
    let word = fresh_word(2);
    let step = bench.script(&format!(
        "trap '' TERM; sleep {word} & echo up; sleep {word}"
    ));
    let result = cancel_when_it_speaks(bench.pod.rung(), &step);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(count_with(&word), 0);
    Outcome::Passed
}

pub fn a_used_handle_cancels_at_once(bench: &Bench) -> Outcome {
    let cancel = Cancel::new().expect("eventfd");
    cancel.cancel();
    cancel.cancel();
    let step = bench.script("sleep 100000");
    let result = run(bench.pod.rung(), &step, &cancel, &mut |_, _| {});
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    Outcome::Passed
}

/// The other side of the next case: runs a step that speaks and never ends.
pub fn be_the_victim(pod: Pod, root: &Path) {
    let word = fs::read_to_string(root.join("word")).expect("word");
    let script = format!("sleep {word} & echo up; sleep {word}");
    let part = |name: &str| root.join(name);
    let overlay = Root::Overlay {
        lowers: vec![part("base")],
        upper: part("upper"),
        work: part("work"),
        scratch: part("scratch"),
    };
    let step = Step::new(overlay, Process::new(["sh", "-c", &script, &word]));
    let cancel = Cancel::new().expect("eventfd");
    let result = run(pod.rung(), &step, &cancel, &mut |_, bytes| {
        use std::io::Write as _;
        std::io::stdout().write_all(bytes).expect("stdout");
    });
    println!("ended: {result:?}");
}

pub fn a_killed_caller_takes_its_step_along(bench: &Bench) -> Outcome {
    let word = fresh_word(3);
    let root = bench.directory("victim");
    fs::write(root.join("word"), &word).expect("write");
    std::os::unix::fs::symlink(bench.base(), root.join("base")).expect("symlink");
    for name in ["upper", "work", "scratch"] {
        fs::create_dir(root.join(name)).expect("mkdir");
    }
    // Not by its path: for another user there may be a folder on the way that is closed.
    let mut victim = Command::new("/proc/self/exe")
        .arg(format!("--pod={}", bench.pod.name()))
        .arg(format!("--victim={}", root.display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut line = String::new();
    let stdout = victim.stdout.take().expect("stdout");
    BufReader::new(stdout).read_line(&mut line).expect("read");
    assert_eq!(line, "up\n");
    // The shell itself has the word as its name.
    assert!(count_with(&word) >= 1);
    victim.kill().expect("kill");
    victim.wait().expect("wait");
    // The helper sees the end of its socket and kills; there is nobody left to tell us when.
    while count_with(&word) > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    Outcome::Passed
}

/// The machine's own `/` with nothing but harmless commands.
fn in_place(script: &str) -> Step {
    let mut process = Process::new(["sh", "-c", script]);
    process.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    Step::new(Root::InPlace, process)
}

pub fn in_place_runs_in_the_own_root_and_kills_what_is_left(bench: &Bench) -> Outcome {
    if !matches!(
        bench.pod,
        Pod::AsStarted | Pod::DefaultCapabilities | Pod::RuntimeDefault
    ) {
        return Outcome::DoesNotApply("the rung needs root with default capabilities".to_owned());
    }
    let word = fresh_word(4);
    let mut step = in_place(&format!(
        "(setsid sleep {word} &) ; sleep {word} & id -u; id -G; pwd; umask; exit 7"
    ));
    step.process.user.uid = 1000;
    step.process.user.gid = 1001;
    step.process.user.groups = vec![1002];
    step.process.cwd = "/etc".into();
    step.process.umask = 0o027;
    let said = run_on(Rung::InPlace, &step).expect("the step runs");
    assert_eq!(said.exit, Exit::Code(7));
    assert_eq!(said.stdout, "1000\n1001 1002\n/etc\n0027\n");
    assert_eq!(count_with(&word), 0);

    let step = in_place(&format!("(setsid sleep {word} &) ; echo up; sleep {word}"));
    let result = cancel_when_it_speaks(Rung::InPlace, &step);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(count_with(&word), 0);
    Outcome::Passed
}

pub fn chroot_sees_only_its_directory(bench: &Bench) -> Outcome {
    if !matches!(
        bench.pod,
        Pod::AsStarted | Pod::DefaultCapabilities | Pod::RuntimeDefault
    ) {
        return Outcome::DoesNotApply("the rung needs SYS_CHROOT".to_owned());
    }
    let mut step = bench.step(&["cat", "/etc/issue"]);
    step.root = Root::Directory(bench.base());
    step.process.user.uid = 1000;
    let said = run_on(Rung::Chroot, &step).expect("the step runs");
    assert_eq!(said.stdout, "from the base\n");
    let mut step = bench.step(&["nonesuch"]);
    step.root = Root::Directory(bench.base());
    let error = run_on(Rung::Chroot, &step).expect_err("no such program");
    assert_eq!(
        error.to_string(),
        "cannot run \"nonesuch\": no such file in the image"
    );
    Outcome::Passed
}
