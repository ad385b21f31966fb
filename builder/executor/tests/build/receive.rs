//! How a context reaches a build that waits for it, and how its log comes back.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::World;

/// A receiver that got a context of one file and a Dockerfile that copies it.
struct Received {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Received {
    fn start(world: &World, target: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_executor"))
            .args(["receive", "--follow"])
            .arg(target)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut received = Self { child, said };
        assert_eq!(received.next()["event"], "ready");
        let marker = target.with_extension("complete");
        assert!(!marker.exists());
        let tar = context(world);
        received
            .child
            .stdin
            .take()
            .unwrap()
            .write_all(&tar)
            .unwrap();
        assert_eq!(received.next()["event"], "received");
        assert!(marker.exists());
        received
    }

    fn next(&mut self) -> Value {
        let line = self.said.next().expect("a line").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

fn context(world: &World) -> Vec<u8> {
    let context = world.context("sent");
    fs::write(context.join("f"), "f\n").unwrap();
    world.dockerfile(&context, "FROM BASE\nCOPY f /f\n");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&context).args(["-cz", "."]);
    tar.output().unwrap().stdout
}

#[test]
fn a_context_that_is_received_as_a_tar() {
    let Some(world) = World::new() else { return };
    let target = world.context("pod").join("context");
    let mut received = Received::start(&world, &target);
    assert_eq!(fs::read_to_string(target.join("f")).unwrap(), "f\n");
    let log = world.build(&target, "sent:1", &["--await-context", "--progress=json"]);
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.last().unwrap()["event"], "finished");
    let numbers: Vec<u64> = events.iter().map(|e| e["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    // Whoever sent the context has heard the same.
    let heard: Vec<_> = events.iter().map(|_| received.next()).collect();
    assert_eq!(heard, events);
    assert!(received.child.wait().unwrap().success());
    assert!(events.iter().any(|event| event["phase"] == "context"));
    let missing = world.context("pod").join("never");
    let output = world.executor(&[
        "-c",
        missing.to_str().unwrap(),
        "--await-context",
        "--await-timeout=0",
    ]);
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("the context did not arrive")
    );
}

/// The end of the build is the end of its container, and of everything in it.
#[test]
fn a_build_does_not_end_before_its_last_line_was_passed_on() {
    let Some(world) = World::new() else { return };
    let target = world.context("pod").join("context");
    let mut received = Received::start(&world, &target);
    received.signal(Signal::STOP);
    let mut build = Command::new(env!("CARGO_BIN_EXE_executor"))
        .arg("-c")
        .arg(&target)
        .arg("--store-dir")
        .arg(world.store())
        .args(["-d", &world.image("sent:1")])
        .args(["--await-context", "--progress=json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(build.stderr.take().unwrap()).lines();
    let is_last = |line: &String| line.contains(r#""event":"finished""#);
    assert!(log.map(Result::unwrap).any(|line| is_last(&line)));
    // Long enough for one that does not wait.
    std::thread::sleep(Duration::from_millis(500));
    let ended = build.try_wait().unwrap();
    received.signal(Signal::CONT);
    assert_eq!(ended, None);
    while received.next()["event"] != "finished" {}
    assert!(received.child.wait().unwrap().success());
    assert!(build.wait().unwrap().success());
}
