//! The text of history entries: what `docker history` shows (BuildKit's `commitToHistory` calls).

use kiln_dockerfile::scope::{PROXY_ARGS, Scope};

use crate::image::History;

/// Who made the entry; BuildKit writes `buildkit.dockerfile.v0` here.
const COMMENT: &str = "kiln";

/// An entry without a layer.
pub(super) fn config(created_by: String) -> History {
    History {
        empty_layer: true,
        ..layer(created_by)
    }
}

/// An entry with a layer.
pub(super) fn layer(created_by: String) -> History {
    History {
        created_by: Some(created_by),
        comment: Some(COMMENT.to_owned()),
        ..History::default()
    }
}

/// `RUN |1 VERSION=3 /bin/sh -c make`: the declared arguments that have a value stand before the
/// command. Proxy arguments stay out: they may hold passwords and say nothing about the image.
pub(super) fn run(argv: &[String], scope: &Scope<'_>) -> String {
    let args: Vec<String> = scope
        .declared_args()
        .iter()
        .filter(|(name, _)| !PROXY_ARGS.contains(&name.as_str()))
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}")))
        .collect();
    let command = argv.join(" ");
    if args.is_empty() {
        format!("RUN {command}")
    } else {
        format!("RUN |{} {} {command}", args.len(), args.join(" "))
    }
}

/// Go's `%q` of a list: `["a" "b"]`.
pub(super) fn quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
