//! The only reader of the process's environment. Everything below gets values.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// What Kiln takes from outside, read once at the start.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Variables whose name and value are UTF-8.
    pub vars: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Home directory, where there is one.
    pub home: Option<PathBuf>,
    /// The running binary.
    pub exe: PathBuf,
}

impl Environment {
    /// Reads the process's environment.
    pub fn read() -> std::io::Result<Self> {
        #[allow(
            clippy::disallowed_methods,
            reason = "this module is the one place that may"
        )]
        let pairs: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let vars: BTreeMap<String, String> = pairs
            .into_iter()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let home = vars
            .get("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from);
        Ok(Self {
            cwd: std::env::current_dir()?,
            exe: std::env::current_exe()?,
            home,
            vars,
        })
    }

    /// A variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// `KILN_<name>`, or `SKAFFOLD_<name>` where that is not set.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.var(&format!("KILN_{name}"))
            .or_else(|| self.var(&format!("SKAFFOLD_{name}")))
    }

    /// Kiln's folder for configuration (XDG Base Directory Specification).
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.xdg("XDG_CONFIG_HOME", ".config")
    }

    /// Kiln's folder for what can be computed again.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        self.xdg("XDG_CACHE_HOME", ".cache")
    }

    /// Kiln's folder for what runs on this machine and what it keeps.
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.xdg("XDG_STATE_HOME", ".local/state")
    }

    fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        // The specification has relative values ignored.
        self.var(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.home.as_ref()?.join(below_home)))
            .map(|base| base.join("kiln"))
    }

    /// A program in the folders of `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let folders = std::env::split_paths(self.var("PATH")?);
        let found = folders.map(|folder| folder.join(name));
        found
            .filter(|path| path.is_absolute())
            .find(|path| path.is_file())
    }

    /// Docker's client configuration: `$DOCKER_CONFIG/config.json`, or the one
    /// below the home directory.
    pub fn docker_config(&self) -> Option<PathBuf> {
        self.var("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(self.home.as_ref()?.join(".docker")))
            .map(|dir| dir.join("config.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment {
            vars: vars
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            cwd: "/p".into(),
            home: Some("/home/u".into()),
            exe: "/bin/kiln".into(),
        }
    }

    #[test]
    fn kiln_variables_come_before_skaffolds() {
        let env = environment(&[("KILN_NAMESPACE", "a"), ("SKAFFOLD_NAMESPACE", "b")]);
        assert_eq!(env.setting("NAMESPACE"), Some("a"));
        assert_eq!(
            environment(&[("SKAFFOLD_NAMESPACE", "b")]).setting("NAMESPACE"),
            Some("b")
        );
        assert_eq!(
            environment(&[("KILN_NAMESPACE", "")]).setting("NAMESPACE"),
            None
        );
    }

    #[test]
    fn folders_follow_the_xdg_specification() {
        assert_eq!(
            environment(&[]).config_dir(),
            Some("/home/u/.config/kiln".into())
        );
        let set = environment(&[("XDG_CONFIG_HOME", "/x"), ("XDG_CACHE_HOME", "relative")]);
        assert_eq!(set.config_dir(), Some("/x/kiln".into()));
        assert_eq!(set.cache_dir(), Some("/home/u/.cache/kiln".into()));
    }
}
