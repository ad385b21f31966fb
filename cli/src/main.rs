//! The `kiln` binary. In a build pod the same file is the executor.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A sandboxed step is this binary run again, and so is the holder of local
    // workloads; then this never returns.
    #[cfg(target_os = "linux")]
    {
        kiln_sandbox::init();
        kiln_local::node::init();
    }
    kiln::run(std::env::args_os().collect())
}
