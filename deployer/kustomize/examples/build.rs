//! `cargo run --example build -- FOLDER` prints a rendered kustomization.

use kiln_kustomize::{DiskFiles, GitRemotes, Kustomizer, LoadRestrictions, Options};

fn main() -> std::process::ExitCode {
    use std::io::Write as _;
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let mut options = Options::default();
    if std::env::args().nth(2).as_deref() == Some("--unrestricted") {
        options.load_restrictions = LoadRestrictions::None;
    }
    let remotes = GitRemotes::default();
    let result = Kustomizer::new(&DiskFiles)
        .with_remotes(&remotes)
        .with_options(options)
        .build(&folder);
    let (text, code) = match result {
        Ok(build) => (build.yaml, 0),
        Err(refused) => (format!("{}\n", refused.error.chain()), 1),
    };
    let written = if code == 0 {
        std::io::stdout().write_all(text.as_bytes())
    } else {
        std::io::stderr().write_all(text.as_bytes())
    };
    if written.is_err() {
        return 1.into();
    }
    code.into()
}
