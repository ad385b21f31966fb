//! What a person sees: on a terminal, and in a file.

use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};

use crate::kiln::{Project, binary, said};

/// ESC [: how every colour and every move of the cursor begins.
const ESCAPE: &str = "\u{1b}[";

/// Runs `kiln` on a terminal of its own, made by util-linux' `script`.
fn on_a_terminal(project: &Project, args: &[&str], no_color: bool) -> String {
    let line = format!("{} {}", binary().display(), args.join(" "));
    let mut command = project.in_network("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]);
    command.env("TERM", "xterm-256color");
    if no_color {
        command.env("NO_COLOR", "1");
    } else {
        command.env_remove("NO_COLOR");
    }
    let output = command.output().expect("script runs");
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn a_terminal_gets_colours_and_a_moving_line_and_a_pipe_gets_neither() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("screen").expect("a namespace");
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let repo = format!("{PLAIN_REGISTRY}/tests/screen-{}", namespace.name());
    let args = [
        "build",
        "--cache-artifacts=false",
        "-n",
        namespace.name(),
        "-d",
        &repo,
        "-t",
    ];
    let build = |tag| [&args[..], &[tag]].concat();

    let terminal = on_a_terminal(&project, &build("one"), false);
    // SGR with a foreground colour (ECMA-48, 8.3.117): 30-37 or 90-97.
    let coloured = terminal.split(ESCAPE).skip(1).any(|rest| {
        let code: String = rest.chars().take_while(|c| *c != 'm').collect();
        code.split(';').any(|part| {
            part.parse::<u8>()
                .is_ok_and(|n| (30..38).contains(&n) || (90..98).contains(&n))
        })
    });
    assert!(coloured, "{terminal:?}");
    // EL, erase in line (8.3.41): a line that is drawn again.
    let redrawn = ["\u{1b}[K", "\u{1b}[2K"];
    assert!(
        redrawn.iter().any(|el| terminal.contains(el)),
        "{terminal:?}"
    );
    let prefixed = |text: &str| {
        text.lines()
            .any(|line| line.contains("page") && line.contains("FROM busybox"))
    };
    assert!(
        prefixed(&terminal),
        "a log line names its image: {terminal:?}"
    );

    // https://no-color.org
    let plain = on_a_terminal(&project, &build("two"), true);
    let colour = plain.split(ESCAPE).skip(1).any(|rest| {
        let code: String = rest.chars().take_while(char::is_ascii_digit).collect();
        rest[code.len()..].starts_with('m') && code.parse::<u8>().is_ok_and(|n| n >= 30)
    });
    assert!(!colour, "{plain:?}");

    let piped = said(&project.run(&build("three")));
    assert!(
        !piped.contains('\u{1b}') && !piped.contains('\r'),
        "{piped:?}"
    );
    assert!(prefixed(&piped), "{piped}");
}
