//! Prints the reference of `kiln.yaml`:
//! `cargo run -p kiln-schemas --example reference > docs/kiln-yaml.md`

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let page = kiln_schemas::config::reference();
    write!(std::io::stdout(), "{page}")
}
