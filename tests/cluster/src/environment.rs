//! The one place of the harness that reads the environment.

use std::path::PathBuf;

/// What the harness takes from the environment of its process.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The user's cache folder: `$XDG_CACHE_HOME`, else `~/.cache`.
    pub cache_home: PathBuf,
    /// The run folder of the shared cluster, from `KILN_TEST_CLUSTER_DIR`.
    pub run_dir: Option<PathBuf>,
    /// `KILN_REQUIRE_ALL=1`: a test that cannot run is a failure, not a skip.
    pub require_all: bool,
}

impl Environment {
    /// Reads the variables of this process.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a harness has no command line above it that could pass these down"
    )]
    pub fn of_process() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache_home = path("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(path("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
            PathBuf::from,
        );
        Self {
            cache_home,
            run_dir: path("KILN_TEST_CLUSTER_DIR").map(PathBuf::from),
            require_all: path("KILN_REQUIRE_ALL").is_some_and(|value| value == "1"),
        }
    }
}
