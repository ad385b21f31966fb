//! The reference of the command line as a page, made from the same
//! definitions that parse it.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::args::definition;
use crate::error::Kind;

/// Environment and settings, which no definition holds.
const SURROUNDINGS: &str = include_str!("reference/surroundings.md");

/// Flags that several commands share, by the structs of `args`.
const SHARED: [(&str, &str); 6] = [
    ("Global", "Flags of every command"),
    ("ProjectArgs", "Project flags"),
    ("BuildArgs", "Build flags"),
    ("DeployArgs", "Deploy flags"),
    ("FollowArgs", "Follow flags"),
    ("ImagesArgs", "Image flags"),
];

/// The page, in Markdown. `docs/commands.md` is a copy; `cargo run -p kiln
/// --example commands` prints it.
pub fn commands() -> String {
    let mut root = definition();
    root.build();
    let mut page = String::from(
        "<!-- Made by `cargo run -p kiln --example commands > docs/commands.md` from cli/src/args.rs,\n     \
         cli/src/error.rs and cli/src/reference/surroundings.md. -->\n# Commands\n\n",
    );
    let listed = root.get_subcommands().map(|command| {
        let name = command.get_name();
        format!("| [`kiln {name}`](#kiln-{name}) | {} |\n", about(command))
    });
    page.push_str("| command | what it does |\n|---|---|\n");
    page.extend(listed);
    for command in root.get_subcommands() {
        section(&mut page, "kiln", command);
    }
    for (group, title) in SHARED {
        let _ = write!(page, "\n## {title}\n\n");
        table(&mut page, members(&root, group));
    }
    exit_codes(&mut page);
    page.push('\n');
    page.push_str(SURROUNDINGS);
    page
}

/// A command: usage, which shared flags it takes, and its own.
fn section(page: &mut String, parent: &str, command: &Command) {
    let name = format!("{parent} {}", command.get_name());
    let _ = write!(page, "\n## {name}\n\n{}.\n\n", about(command));
    let _ = writeln!(page, "    {name}{}", words(command));
    let shared: Vec<String> = SHARED
        .iter()
        .skip(1)
        .filter(|(group, _)| has_group(command, group))
        .map(|(_, title)| format!("[{}](#{})", title.to_lowercase(), anchor(title)))
        .collect();
    if !shared.is_empty() {
        let _ = writeln!(page, "\nTakes the {}.", shared.join(", "));
    }
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !is_shared(command, arg))
        .collect();
    if !own.is_empty() {
        page.push('\n');
        table(page, own.into_iter());
    }
    for below in command.get_subcommands() {
        section(page, &name, below);
    }
}

fn about(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// What follows a command's name.
fn words(command: &Command) -> String {
    let mut words = String::from(if command.has_subcommands() {
        " COMMAND"
    } else {
        " [FLAGS]"
    });
    for arg in command.get_positionals() {
        let dots = if arg.get_num_args().is_some_and(|n| n.max_values() > 1) {
            "..."
        } else {
            ""
        };
        let _ = write!(words, " {}{dots}", value_name(arg));
    }
    words
}

fn has_group(command: &Command, group: &str) -> bool {
    command.get_groups().any(|g| g.get_id() == group)
}

fn is_shared(command: &Command, arg: &Arg) -> bool {
    let id = arg.get_id();
    let generated = matches!(id.as_str(), "help" | "version");
    generated
        || arg.is_global_set()
        || command
            .get_groups()
            .filter(|group| SHARED.iter().any(|(name, _)| group.get_id() == *name))
            .any(|group| group.get_args().any(|member| member == id))
}

/// The flags of a group, from the first command that has it.
fn members<'a>(root: &'a Command, group: &str) -> impl Iterator<Item = &'a Arg> {
    let owner = std::iter::once(root)
        .chain(root.get_subcommands())
        .find(|command| has_group(command, group));
    let ids: Vec<_> = owner
        .into_iter()
        .flat_map(Command::get_groups)
        .filter(|found| found.get_id() == group)
        .flat_map(|found| found.get_args().cloned())
        .collect();
    owner
        .into_iter()
        .flat_map(Command::get_arguments)
        .filter(move |arg| ids.contains(arg.get_id()))
}

fn table<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    page.push_str("| flag | meaning |\n|---|---|\n");
    for arg in args {
        let _ = writeln!(page, "| {} | {} |", spelling(arg), meaning(arg));
    }
}

/// `-n`, `--namespace NAME`
fn spelling(arg: &Arg) -> String {
    let Some(long) = arg.get_long() else {
        return format!("`{}`", value_name(arg));
    };
    let short = arg
        .get_short()
        .map_or_else(String::new, |short| format!("`-{short}`, "));
    let value = if arg.get_action().takes_values() {
        let optional = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
        let name = value_name(arg);
        if optional {
            format!("[={name}]")
        } else {
            format!(" {name}")
        }
    } else {
        String::new()
    };
    format!("{short}`--{long}{value}`")
}

fn value_name(arg: &Arg) -> String {
    arg.get_value_names().map_or_else(
        || arg.get_id().to_string().to_uppercase(),
        |names| names.join(" "),
    )
}

/// The help, the values to choose from, and the default.
fn meaning(arg: &Arg) -> String {
    let mut text = arg
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && !matches!(value.get_name(), "true" | "false"))
        .map(|value| match value.get_help() {
            Some(help) => {
                let help = help.to_string();
                format!("`{}` ({})", value.get_name(), help.trim_end_matches('.'))
            }
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !values.is_empty() {
        let _ = write!(text, "<br>One of {}.", values.join(", "));
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(text, " [default: {}]", defaults.join(", "));
    }
    text.replace('|', "\\|")
}

fn exit_codes(page: &mut String) {
    page.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    page.push_str("| 0 | everything that was asked for happened; also `dev` ended by Ctrl-C |\n");
    for kind in Kind::ALL {
        let _ = writeln!(page, "| {} | {} |", kind.code(), kind.meaning());
    }
    page.push_str("\n`exec` ends with the code of the command that it ran.\n");
}

fn anchor(title: &str) -> String {
    title.to_lowercase().replace(' ', "-")
}
