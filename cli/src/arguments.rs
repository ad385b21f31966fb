//! The command line, completed by the environment: every flag is also
//! `KILN_<FLAG>`, and `SKAFFOLD_<FLAG>` where that is not set. What is typed
//! wins.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use crate::args::{Kiln, definition};
use crate::env::Environment;

/// Parses the arguments (program name first).
pub fn parse(words: Vec<OsString>, env: &Environment) -> Result<Kiln, clap::Error> {
    let root = definition();
    let matches = root.clone().try_get_matches_from(words.clone())?;
    let (global, own) = from_environment(&root, &matches, env);
    let mut completed = words;
    completed.extend(own);
    // In front of the command, where no flag of its own can be meant.
    let after_name = completed.len().min(1);
    completed.splice(after_name..after_name, global);
    Kiln::from_arg_matches(&root.try_get_matches_from(completed)?)
}

/// Flags that the environment gives and nobody typed: those of every command,
/// and those of the chosen one.
fn from_environment(
    root: &Command,
    matches: &ArgMatches,
    env: &Environment,
) -> (Vec<OsString>, Vec<OsString>) {
    let global = given(root.get_arguments(), matches, env);
    let is_own = |arg: &&Arg| {
        !root
            .get_arguments()
            .any(|global| global.get_long() == arg.get_long())
    };
    let (mut command, mut matches) = (root, matches);
    let mut own = Vec::new();
    while let Some((name, below)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name) else {
            break;
        };
        (command, matches) = (found, below);
        // One variable is one flag, whatever the command calls so.
        own.extend(given(command.get_arguments().filter(is_own), matches, env));
    }
    (global, own)
}

fn given<'a>(
    args: impl Iterator<Item = &'a Arg>,
    matches: &ArgMatches,
    env: &Environment,
) -> Vec<OsString> {
    args.filter_map(|arg| {
        let long = arg
            .get_long()
            .filter(|long| !matches!(*long, "help" | "version"))?;
        let typed = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let value = env.setting(&long.to_uppercase().replace('-', "_"))?;
        (!typed).then(|| flag(arg, long, value))?
    })
    .collect()
}

/// `--long=value`; a switch that takes no value is given only when the value
/// says yes.
fn flag(arg: &Arg, long: &str, value: &str) -> Option<OsString> {
    if arg.get_action().takes_values() {
        return Some(format!("--{long}={value}").into());
    }
    matches!(value, "1" | "true" | "TRUE" | "True" | "t" | "T").then(|| format!("--{long}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command as Verb, KustomizeCommand};
    use crate::ui::Output;

    fn parse_with(words: &[&str], vars: &[(&str, &str)]) -> Kiln {
        let env = Environment {
            vars: vars
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            cwd: "/p".into(),
            home: None,
            exe: "/bin/kiln".into(),
        };
        parse(words.iter().map(OsString::from).collect(), &env).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn the_environment_fills_in_what_is_not_typed() {
        let vars = [
            ("KILN_NAMESPACE", "from-kiln"),
            ("SKAFFOLD_NAMESPACE", "from-skaffold"),
            ("SKAFFOLD_DEFAULT_REPO", "r.example/team"),
            ("SKAFFOLD_CACHE_ARTIFACTS", "false"),
            ("SKAFFOLD_PROFILE", "a,b"),
            ("KILN_FORCE", "true"),
        ];
        let Verb::Run(run) = parse_with(&["kiln", "run"], &vars).command else {
            panic!("not run")
        };
        assert_eq!(run.project.namespace.as_deref(), Some("from-kiln"));
        assert_eq!(run.build.default_repo.as_deref(), Some("r.example/team"));
        assert_eq!(run.project.profile, ["a", "b"]);
        assert!(!run.build.cache_artifacts);
        assert!(run.deploy.force);

        let typed = ["kiln", "run", "-n", "typed", "--cache-artifacts"];
        let Verb::Run(run) = parse_with(&typed, &vars).command else {
            panic!("not run")
        };
        assert_eq!(run.project.namespace.as_deref(), Some("typed"));
        assert!(run.build.cache_artifacts);
    }

    #[test]
    fn a_profile_is_switched_off_with_a_minus() {
        let Verb::Dev(dev) = parse_with(&["kiln", "dev", "-p", "-staging"], &[]).command else {
            panic!("not dev")
        };
        assert_eq!(dev.project.profile, ["-staging"]);
    }

    #[test]
    fn output_is_kustomizes_own_flag_behind_its_command() {
        let build = |words: &[&str], vars: &[(&str, &str)]| {
            let kiln = parse_with(words, vars);
            let Verb::Kustomize(KustomizeCommand::Build(build)) = kiln.command else {
                panic!("not kustomize build")
            };
            (kiln.global.output, build.output_path, build.target)
        };
        let path = |text: &str| Some(std::path::PathBuf::from(text));
        let words = ["kiln", "kustomize", "build"];
        assert_eq!(build(&words, &[]), (Output::Auto, None, ".".to_owned()));
        for typed in [
            &["-o", "x"][..],
            &["-ox"],
            &["--output=x"],
            &["--output", "x"],
        ] {
            let words = [&words[..], typed, &["k8s"]].concat();
            let (form, to, target) = build(&words, &[("KILN_OUTPUT", "json")]);
            assert_eq!((form, to), (Output::Json, path("x")), "{typed:?}");
            assert_eq!(target, "k8s");
        }
        let words = ["kiln", "--output=plain", "kustomize", "build"];
        let (form, to, _) = build(&words, &[("KILN_OUTPUT", "json")]);
        assert_eq!((form, to), (Output::Plain, None));
        // Everywhere else it says how events are shown.
        for words in [
            &["kiln", "config", "list", "--output=plain"][..],
            &["kiln", "--output", "plain", "run"],
        ] {
            let vars = [("KILN_OUTPUT", "json")];
            assert_eq!(parse_with(words, &vars).global.output, Output::Plain);
        }
        let vars = [("SKAFFOLD_OUTPUT", "json")];
        assert_eq!(
            parse_with(&["kiln", "run"], &vars).global.output,
            Output::Json
        );
    }
}
