use super::*;
use crate::step::{Access, Bind, Process, Tmpfs};

fn in_place() -> Step {
    Step::new(Root::InPlace, Process::new(["true"]))
}

fn overlay() -> Root {
    Root::Overlay {
        lowers: vec!["/l".into()],
        upper: "/u".into(),
        work: "/w".into(),
        scratch: "/s".into(),
    }
}

fn refusal(rung: Rung, step: &Step) -> String {
    check(rung, step).expect_err("refused").to_string()
}

#[test]
fn what_a_rung_without_mounts_cannot_do_is_named() {
    assert!(check(Rung::InPlace, &in_place()).is_ok());
    let tmpfs = Step {
        tmpfs: vec![Tmpfs {
            target: "/t".into(),
            size: None,
            access: Access::ReadWrite,
            mode: 0o1777,
        }],
        ..in_place()
    };
    let text = refusal(Rung::InPlace, &tmpfs);
    assert!(
        text.starts_with("a tmpfs on /t is not possible with the isolation in-place"),
        "{text}"
    );
    let offline = Step {
        network: Network::None,
        ..in_place()
    };
    let text = refusal(Rung::InPlace, &offline);
    assert!(text.contains("without network"), "{text}");
    assert!(text.contains("hostUsers: false"), "{text}");
    let bound = Step {
        binds: vec![Bind::writable("/a", "/b")],
        ..in_place()
    };
    assert!(refusal(Rung::InPlace, &bound).contains("mounting /a on /b"));
    let same = Step {
        binds: vec![Bind::writable("/a", "/a")],
        ..in_place()
    };
    assert!(check(Rung::InPlace, &same).is_ok());
}

#[test]
fn nothing_runs_without_a_rung() {
    assert!(refusal(Rung::NoRun, &in_place()).starts_with("running a command is not possible"));
}

#[test]
fn a_root_that_does_not_go_with_the_rung_is_invalid() {
    let step = Step::new(overlay(), Process::new(["true"]));
    assert!(check(Rung::UserNamespace, &step).is_ok());
    assert!(matches!(
        check(Rung::InPlace, &step),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        check(Rung::UserNamespace, &in_place()),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn relative_paths_and_empty_commands_are_invalid() {
    let mut step = in_place();
    step.process.cwd = "work".into();
    assert_eq!(
        refusal(Rung::InPlace, &step),
        "invalid step: work is not absolute"
    );
    let nothing = Step::new(Root::InPlace, Process::new::<_, &str>([]));
    assert!(matches!(
        check(Rung::InPlace, &nothing),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn hidden_volumes_are_left_out_and_their_parents_stay() {
    let mut step = in_place();
    step.volumes = ["/v/token", "/v", "/v/token/deep", "/v/tokens"]
        .map(PathBuf::from)
        .to_vec();
    step.hidden = vec!["/v/token".into()];
    assert_eq!(
        without_hidden_volumes(&step).volumes,
        ["/v", "/v/tokens"].map(PathBuf::from)
    );
}

#[test]
fn a_signal_is_a_failure_with_the_shells_code() {
    assert_eq!(Exit::Signal(9).code(), 137);
    assert!(!Exit::Signal(9).success());
    assert!(Exit::Code(0).success());
}

#[test]
fn a_part_ends_with_the_whole_and_not_the_whole_with_a_part() {
    let whole = Cancel::new().unwrap();
    let (one, other) = (whole.part().unwrap(), whole.part().unwrap());
    let within = one.part().unwrap();
    let used = || [&whole, &one, &other, &within].map(Cancel::is_cancelled);
    assert_eq!(used(), [false; 4]);
    one.cancel();
    assert_eq!(used(), [false, true, false, true]);
    whole.cancel();
    assert_eq!(used(), [true; 4]);
}
