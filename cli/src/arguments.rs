//! The command line, completed by the environment: every flag is also
//! `KILN_<FLAG>`, and `SKAFFOLD_<FLAG>` where that is not set. What is typed
//! wins.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::args::Kiln;
use crate::env::Environment;

/// Parses the arguments (program name first).
pub fn parse(words: Vec<OsString>, env: &Environment) -> Result<Kiln, clap::Error> {
    let matches = Kiln::command().try_get_matches_from(words.clone())?;
    let mut completed = words;
    completed.extend(from_environment(&Kiln::command(), &matches, env));
    Kiln::from_arg_matches(&Kiln::command().try_get_matches_from(completed)?)
}

/// Flags of the chosen subcommand that the environment gives and nobody typed.
fn from_environment(root: &Command, matches: &ArgMatches, env: &Environment) -> Vec<OsString> {
    let (mut command, mut matches) = (root, matches);
    let mut flags = Vec::new();
    loop {
        flags.extend(command.get_arguments().filter_map(|arg| {
            let long = arg
                .get_long()
                .filter(|long| !matches!(*long, "help" | "version"))?;
            let typed =
                matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
            let value = env.setting(&long.to_uppercase().replace('-', "_"))?;
            (!typed).then(|| flag(arg, long, value))?
        }));
        let Some((name, below)) = matches.subcommand() else {
            return flags;
        };
        let Some(found) = command.find_subcommand(name) else {
            return flags;
        };
        (command, matches) = (found, below);
    }
}

/// `--long=value`; a switch that takes no value is given only when the value
/// says yes.
fn flag(arg: &clap::Arg, long: &str, value: &str) -> Option<OsString> {
    if arg.get_action().takes_values() {
        return Some(format!("--{long}={value}").into());
    }
    matches!(value, "1" | "true" | "TRUE" | "True" | "t" | "T").then(|| format!("--{long}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command as Verb;

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
        Kiln::command().debug_assert();
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
}
