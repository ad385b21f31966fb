//! The executor: builds one image and pushes it. See `kiln_executor` for all that it does.

/// musl's own takes one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    kiln_sandbox::init();
    kiln_sandbox::end_when_asked();
    let args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    kiln_executor::cli::start_as_root(&args);
    let (mut input, mut output, mut log) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = kiln_executor::cli::Streams {
        input: &mut input,
        output: &mut output,
        log: &mut log,
    };
    std::process::ExitCode::from(kiln_executor::cli::main_with(&args, &env, streams))
}

#[cfg(not(target_os = "linux"))]
fn main() {}
