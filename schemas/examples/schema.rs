//! Prints the JSON Schema of `kiln.yaml`:
//! `cargo run -p kiln-schemas --example schema > docs/kiln.schema.json`

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let schema = kiln_schemas::config::schema();
    writeln!(std::io::stdout(), "{schema:#}")
}
