//! How many stages are built at the same time.

use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{CliError, wrong};
use crate::cli::args::Args;

/// What a stage may take of a memory that is limited. Limits were measured with kaniko, which builds
/// one stage after another.
const MEMORY_OF_A_STAGE: u64 = 2 << 30;

/// Where a container finds its memory limit (cgroup v2, v1).
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// `--jobs`, or what this machine or container is good for. Stages that see volumes of a pod may hand
/// files on there, where no COPY says so: without a word they are built one after another, as by
/// kaniko.
pub(super) fn jobs(args: &Args, volumes: &[PathBuf]) -> Result<NonZero<usize>, CliError> {
    let Some(text) = args.one("jobs") else {
        let is_writable = |volume: &PathBuf| {
            let stat = statvfs(volume);
            stat.map_or(true, |stat| {
                !stat.f_flag.contains(StatVfsMountFlags::RDONLY)
            })
        };
        if volumes.iter().any(is_writable) {
            return Ok(NonZero::<usize>::MIN);
        }
        // With the processor limit of a container.
        let cores = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let limit = LIMITS.iter().find_map(|file| fs::read_to_string(file).ok());
        return Ok(good_for(cores, limit.as_deref()));
    };
    let number = text.parse();
    number.map_err(|_| wrong("jobs", text, "expected a number of stages, at least 1"))
}

/// `limit` is what the kernel says: bytes, or `max`.
fn good_for(cores: NonZero<usize>, limit: Option<&str>) -> NonZero<usize> {
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
    let fit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit / MEMORY_OF_A_STAGE).unwrap_or(usize::MAX)
    });
    NonZero::new(fit).map_or(NonZero::<usize>::MIN, |fit| fit.min(cores))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_memory_limits_the_stages_too() {
        for (cores, limit, jobs) in [
            (4, None, 4),
            (4, Some("max\n"), 4),
            (1, Some("max\n"), 1),
            (4, Some("536870912\n"), 1),
            (4, Some("4294967296\n"), 2),
            (2, Some("17179869184\n"), 2),
            // What cgroup v1 says without a limit.
            (8, Some("9223372036854771712\n"), 8),
        ] {
            let cores = NonZero::new(cores).unwrap();
            assert_eq!(good_for(cores, limit).get(), jobs, "{cores} {limit:?}");
        }
    }
}
