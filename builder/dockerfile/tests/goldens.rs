//! Each folder below `tests/cases` holds a `Dockerfile` and what it means, in `result.txt`: the
//! instructions with their lines, or the error. The results are written from the Dockerfile
//! reference and checked against BuildKit 0.33.1, never copied from this parser.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_dockerfile::healthcheck::Healthcheck;
use kiln_dockerfile::instruction::{
    Escape, Heredoc, Instruction, KeyValue, Network, Run, Security, ShellOrExec, Source,
};
use kiln_dockerfile::{Dockerfile, Located, ParseError, lint, parse};

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn joined<'t>(texts: impl IntoIterator<Item = &'t String>) -> String {
    texts
        .into_iter()
        .map(|text| quoted(text))
        .collect::<Vec<_>>()
        .join(" ")
}

fn command(command: &ShellOrExec) -> String {
    match command {
        ShellOrExec::Shell(text) => format!("shell {}", quoted(text)),
        ShellOrExec::Exec(argv) => format!("exec [{}]", joined(argv)),
    }
}

fn pairs(pairs: &[KeyValue]) -> String {
    let pair = |pair: &KeyValue| format!("{}={}", quoted(&pair.key), quoted(&pair.value));
    pairs.iter().map(pair).collect::<Vec<_>>().join(" ")
}

fn heredoc(heredoc: &Heredoc) -> String {
    let expand = if heredoc.expand { "" } else { " literal" };
    let tabs = if heredoc.strip_tabs {
        " strip-tabs"
    } else {
        ""
    };
    format!(
        "<<{} {}{expand}{tabs}",
        heredoc.name,
        quoted(&heredoc.content)
    )
}

fn sources(sources: &[Source], dest: &str) -> String {
    let source = |source: &Source| match source {
        Source::Path(path) => quoted(path),
        Source::Heredoc(document) => heredoc(document),
    };
    let sources: Vec<String> = sources.iter().map(source).collect();
    format!("{} -> {}", sources.join(" "), quoted(dest))
}

fn flag(name: &str, value: Option<&String>) -> String {
    value
        .map(|value| format!(" {name}={}", quoted(value)))
        .unwrap_or_default()
}

fn switch(name: &str, on: bool) -> String {
    if on {
        format!(" {name}")
    } else {
        String::new()
    }
}

fn run(run: &Run) -> String {
    let mut text = command(&run.command);
    for document in &run.heredocs {
        write!(text, " {}", heredoc(document)).expect("a String takes everything");
    }
    for mount in &run.mounts {
        text += &flag("mount", Some(&mount.text));
    }
    text += match run.network {
        Network::Default => "",
        Network::None => " network=none",
        Network::Host => " network=host",
    };
    text + &switch("insecure", run.security == Security::Insecure)
}

fn health(check: &Healthcheck) -> String {
    match check {
        Healthcheck::None => "none".to_owned(),
        Healthcheck::Command {
            command: test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => format!(
            "{} interval={interval:?} timeout={timeout:?} start-period={start_period:?} \
             start-interval={start_interval:?} retries={retries}",
            command(test)
        ),
    }
}

fn describe(instruction: &Instruction) -> String {
    match instruction {
        Instruction::Add(add) => {
            sources(&add.sources, &add.dest)
                + &flag("chown", add.chown.as_ref())
                + &flag("chmod", add.chmod.as_ref())
                + &switch("link", add.link)
                + &add
                    .exclude
                    .iter()
                    .map(|p| flag("exclude", Some(p)))
                    .collect::<String>()
                + &switch("keep-git-dir", add.keep_git_dir == Some(true))
                + &flag("checksum", add.checksum.as_ref())
                + &add
                    .unpack
                    .map(|unpack| format!(" unpack={unpack}"))
                    .unwrap_or_default()
        }
        Instruction::Copy(copy) => {
            sources(&copy.sources, &copy.dest)
                + &flag("from", copy.from.as_ref())
                + &flag("chown", copy.chown.as_ref())
                + &flag("chmod", copy.chmod.as_ref())
                + &switch("link", copy.link)
                + &switch("parents", copy.parents)
                + &copy
                    .exclude
                    .iter()
                    .map(|p| flag("exclude", Some(p)))
                    .collect::<String>()
        }
        Instruction::Arg(args) => {
            let arg = |arg: &kiln_dockerfile::instruction::ArgDeclaration| match &arg.default {
                Some(default) => format!("{}={}", arg.name, quoted(default)),
                None => arg.name.clone(),
            };
            args.iter().map(arg).collect::<Vec<_>>().join(" ")
        }
        Instruction::Cmd(line) | Instruction::Entrypoint(line) => command(line),
        Instruction::Env(list) | Instruction::Label(list) => pairs(list),
        Instruction::Expose(words) | Instruction::Volume(words) | Instruction::Shell(words) => {
            joined(words)
        }
        Instruction::Healthcheck(check) => health(check),
        Instruction::Onbuild(onbuild) => {
            let inner = &onbuild.instruction;
            format!(
                "{} = {} {}",
                quoted(&onbuild.trigger),
                inner.keyword(),
                describe(inner)
            )
        }
        Instruction::Run(command) => run(command),
        Instruction::Maintainer(text)
        | Instruction::StopSignal(text)
        | Instruction::User(text)
        | Instruction::Workdir(text) => quoted(text),
    }
}

fn dump(result: &Result<Dockerfile, ParseError>) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let dockerfile = match result {
        Ok(dockerfile) => dockerfile,
        Err(error) => {
            writeln!(
                out,
                "error {}:{} {}",
                error.line(),
                error.column(),
                error.message()
            )?;
            if let Some(hint) = error.hint() {
                writeln!(out, "hint {hint}")?;
            }
            return Ok(out);
        }
    };
    if let Some(syntax) = &dockerfile.directives.syntax {
        writeln!(
            out,
            "{} syntax {}",
            syntax.position.line,
            quoted(&syntax.value)
        )?;
    }
    if dockerfile.directives.escape == Escape::Backtick {
        writeln!(out, "escape `")?;
    }
    for Located {
        value, position, ..
    } in &dockerfile.meta_args
    {
        let declaration = Instruction::Arg(vec![value.clone()]);
        writeln!(out, "{} ARG {}", position.line, describe(&declaration))?;
    }
    for stage in &dockerfile.stages {
        write!(out, "{} FROM {}", stage.position.line, quoted(&stage.base))?;
        write!(out, "{}", flag("as", stage.name.as_ref()))?;
        writeln!(out, "{}", flag("platform", stage.platform.as_ref()))?;
        for Located {
            value,
            position,
            last_line,
            ..
        } in &stage.instructions
        {
            let end = if *last_line == position.line {
                String::new()
            } else {
                format!("-{last_line}")
            };
            let text = describe(value);
            writeln!(out, "  {}{end} {} {text}", position.line, value.keyword())?;
        }
    }
    for warning in lint::check(dockerfile, &|_| None).warnings {
        writeln!(
            out,
            "warning {} {}",
            warning.position.line,
            warning.rule.name()
        )?;
    }
    Ok(out)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of cases is there")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_case_means_what_its_result_says() {
    let mut failures = String::new();
    for case in cases() {
        let text = fs::read_to_string(case.join("Dockerfile")).expect("every case has one");
        let expected = fs::read_to_string(case.join("result.txt")).expect("every case has one");
        let actual = dump(&parse(&text)).expect("a String takes everything");
        if actual != expected {
            let name = case.file_name().unwrap_or_default().display();
            failures += &format!("== {name}\n-- expected\n{expected}-- actual\n{actual}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
