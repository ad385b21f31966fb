//! Prints the reference of the command line:
//! `cargo run -p kiln --example commands > docs/commands.md`

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let page = kiln::reference::commands();
    write!(std::io::stdout(), "{page}")
}
