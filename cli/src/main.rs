//! The `kiln` binary. In a build pod the same file is the executor.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A sandboxed step is this binary run again; then this never returns.
    #[cfg(target_os = "linux")]
    kiln_sandbox::init();
    kiln::run(std::env::args_os().collect())
}
