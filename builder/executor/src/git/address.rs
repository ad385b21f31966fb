//! What a git address says: the repository, the reference, the directory in it.
//!
//! Sources: Docker's documentation, "Git repositories" (the fragment `#ref:subdir` and the query form), and kaniko's
//! README, "Kaniko Build Contexts" (`git://host/repo#ref#commit`).

use url::Url;

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// For git, without credentials, query and fragment.
    pub url: String,
    /// Branch, tag, full reference or commit; the default branch without.
    pub reference: Option<String>,
    /// A commit that the reference leads to (kaniko's second fragment).
    pub commit: Option<String>,
    /// The directory that counts.
    pub subdir: Option<String>,
    /// The commit must begin like this.
    pub checksum: Option<String>,
    /// `keep-git-dir` of the query.
    pub keep_git_dir: Option<bool>,
    /// `submodules` of the query.
    pub submodules: Option<bool>,
    /// User and password, where the address has them.
    pub login: Option<super::Login>,
}

impl Address {
    /// The commit that the address names, whatever anybody does in the repository.
    #[must_use]
    pub fn fixed_commit(&self) -> Option<&str> {
        let is_whole = |name: &&str| {
            matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let reference = self.reference.as_deref().filter(is_whole);
        let commit = self.commit.as_deref().or(self.checksum.as_deref());
        commit.filter(is_whole).or(reference)
    }
}

/// Why a git address means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A key of the query.
    #[error(
        "`{0}` is not known in a git address: expected ref, branch, tag, commit, checksum, subdir, submodules or keep-git-dir"
    )]
    Key(String),
    /// Two parts that say different things.
    #[error("`{0}` is given twice in a git address")]
    Twice(&'static str),
    /// A value of the query.
    #[error("`{key}={value}` in a git address: expected true or false")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A name that git would take for an option.
    #[error("`{0}` is no name of a branch, tag or commit")]
    Reference(String),
}

impl Address {
    /// Reads an address as ADD and build contexts have it: `git://…`, `ssh://…`, `user@host:path`,
    /// `http(s)://….git`, `github.com/…`, each with `#ref:subdir` or `?ref=…&subdir=…`. `None` when `text` is no git
    /// address.
    ///
    /// # Errors
    /// [`AddressError`] when it is one and cannot be understood.
    pub fn parse(text: &str) -> Option<Result<Self, AddressError>> {
        let (rest, fragment) = split(text, '#');
        let (base, query) = split(rest, '?');
        if !is_git(base) {
            return None;
        }
        Some(Self::assemble(base, query, fragment))
    }

    fn assemble(
        base: &str,
        query: Option<&str>,
        fragment: Option<&str>,
    ) -> Result<Self, AddressError> {
        let (url, login) = without_login(base);
        let mut address = Self {
            url,
            reference: None,
            commit: None,
            subdir: None,
            checksum: None,
            keep_git_dir: None,
            submodules: None,
            login,
        };
        if let Some(fragment) = fragment {
            let (reference, subdir) = split(fragment, ':');
            address.reference = filled(reference);
            address.subdir = subdir.and_then(filled);
        }
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            address.option(&key, &value)?;
        }
        address.checked()
    }

    /// Reads kaniko's `git://host/path[#reference[#commit]]`, where `git://` stands for `method` (`https`, mostly).
    ///
    /// # Errors
    /// [`AddressError::Reference`]
    pub fn of_context(text: &str, method: &str) -> Result<Self, AddressError> {
        let rest = text.strip_prefix("git://").unwrap_or(text);
        let mut parts = rest.splitn(3, '#');
        let (url, login) =
            without_login(&format!("{method}://{}", parts.next().unwrap_or_default()));
        let reference = parts.next().and_then(filled);
        let address = Self {
            url,
            reference,
            commit: parts.next().and_then(filled),
            subdir: None,
            checksum: None,
            keep_git_dir: None,
            submodules: None,
            login,
        };
        address.checked()
    }

    /// The scheme and host, where credentials may go in a header.
    pub(super) fn web_origin(&self) -> Option<String> {
        let url = Url::parse(&self.url).ok()?;
        let is_web = matches!(url.scheme(), "http" | "https");
        is_web.then(|| format!("{}/", url.origin().ascii_serialization()))
    }

    fn option(&mut self, key: &str, value: &str) -> Result<(), AddressError> {
        let flag = || match value {
            "" | "1" | "true" => Ok(Some(true)),
            "0" | "false" => Ok(Some(false)),
            _ => Err(AddressError::Value {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
        };
        match key {
            "ref" => set(&mut self.reference, value, "ref"),
            "branch" => set(&mut self.reference, &format!("refs/heads/{value}"), "ref"),
            "tag" => set(&mut self.reference, &format!("refs/tags/{value}"), "ref"),
            "subdir" => set(&mut self.subdir, value, "subdir"),
            "commit" | "checksum" => set(&mut self.checksum, value, "checksum"),
            "keep-git-dir" => {
                self.keep_git_dir = flag()?;
                Ok(())
            }
            "submodules" => {
                self.submodules = flag()?;
                Ok(())
            }
            _ => Err(AddressError::Key(key.to_owned())),
        }
    }

    /// Nothing of it reaches git as an option.
    fn checked(self) -> Result<Self, AddressError> {
        for name in [&self.reference, &self.commit].into_iter().flatten() {
            let odd = |c: char| {
                c.is_whitespace() || c.is_control() || matches!(c, ':' | '^' | '~' | '\\')
            };
            if name.starts_with(['-', '+']) || name.contains(odd) {
                return Err(AddressError::Reference(name.clone()));
            }
        }
        Ok(self)
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn set(place: &mut Option<String>, value: &str, name: &'static str) -> Result<(), AddressError> {
    if place.as_ref().is_some_and(|known| known != value) {
        return Err(AddressError::Twice(name));
    }
    *place = filled(value);
    Ok(())
}

fn is_git(base: &str) -> bool {
    if base.starts_with("github.com/") || base.starts_with("git://") || base.starts_with("ssh://") {
        return true;
    }
    if base.starts_with("https://") || base.starts_with("http://") {
        return base.trim_end_matches('/').ends_with(".git");
    }
    is_scp(base)
}

/// `git@host:path`: a user, a host without slashes, and a path.
fn is_scp(base: &str) -> bool {
    let Some((user, rest)) = base.split_once('@') else {
        return false;
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    let word = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    };
    word(user) && word(host) && !path.is_empty() && !path.starts_with("//")
}

/// The address as git gets it; what it says about the user is kept apart.
fn without_login(base: &str) -> (String, Option<super::Login>) {
    let base = match base.strip_prefix("github.com/") {
        Some(path) => format!("https://github.com/{path}"),
        None => base.to_owned(),
    };
    let Ok(mut url) = Url::parse(&base) else {
        return (base, None);
    };
    if !matches!(url.scheme(), "http" | "https") || url.username().is_empty() {
        return (base, None);
    }
    let decoded = |text: &str| {
        let bytes = text.replace('+', "%2B");
        url::form_urlencoded::parse(format!("x={bytes}").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    let login = super::Login {
        username: decoded(url.username()),
        password: decoded(url.password().unwrap_or_default()),
    };
    // Only addresses without a host refuse this, and http has one.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    (url.into(), Some(login))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, Option<String>, Option<String>) {
        let address = Address::parse(text).unwrap().unwrap();
        (address.url, address.reference, address.subdir)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// The examples of Docker's documentation, "Build context", "Git repositories" and "URL fragments".
    #[test]
    fn forms_of_dockers_documentation() {
        for (text, url, reference, subdir) in [
            (
                "https://github.com/user/myrepo.git",
                "https://github.com/user/myrepo.git",
                None,
                None,
            ),
            (
                "https://github.com/user/myrepo.git#mytag",
                "https://github.com/user/myrepo.git",
                some("mytag"),
                None,
            ),
            (
                "https://github.com/user/myrepo.git#:myfolder",
                "https://github.com/user/myrepo.git",
                None,
                some("myfolder"),
            ),
            (
                "https://github.com/user/myrepo.git#mybranch:myfolder",
                "https://github.com/user/myrepo.git",
                some("mybranch"),
                some("myfolder"),
            ),
            (
                "https://github.com/user/myrepo.git?branch=container&subdir=docker",
                "https://github.com/user/myrepo.git",
                some("refs/heads/container"),
                some("docker"),
            ),
            (
                "https://github.com/user/myrepo.git?tag=v1.0",
                "https://github.com/user/myrepo.git",
                some("refs/tags/v1.0"),
                None,
            ),
            (
                "git@github.com:user/private.git",
                "git@github.com:user/private.git",
                None,
                None,
            ),
            (
                "ssh://git@github.com/user/private.git",
                "ssh://git@github.com/user/private.git",
                None,
                None,
            ),
            (
                "github.com/user/myrepo",
                "https://github.com/user/myrepo",
                None,
                None,
            ),
        ] {
            assert_eq!(read(text), (url.to_owned(), reference, subdir), "{text}");
        }
    }

    #[test]
    fn what_is_no_repository() {
        for text in [
            "https://example.com/file.tar.gz",
            "./dir",
            "a/b",
            "user@host",
            "http://h/x.git.zip",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    /// From kaniko's README: `git://github.com/acme/myproject.git#refs/heads/mybranch#<desired-commit-id>`.
    #[test]
    fn kanikos_contexts() {
        let text = "git://github.com/acme/myproject.git#refs/heads/mybranch#0123abcd";
        let address = Address::of_context(text, "https").unwrap();
        assert_eq!(address.url, "https://github.com/acme/myproject.git");
        assert_eq!(address.reference, some("refs/heads/mybranch"));
        assert_eq!(address.commit, some("0123abcd"));
    }

    #[test]
    fn passwords_leave_the_address() {
        let address = Address::of_context("git://me:p%40ss@host/r.git", "https").unwrap();
        assert_eq!(address.url, "https://host/r.git");
        let login = address.login.unwrap();
        assert_eq!(
            (login.username.as_str(), login.password.as_str()),
            ("me", "p@ss")
        );
    }

    #[test]
    fn nothing_becomes_an_option_of_git() {
        for text in [
            "git://h/r.git#--upload-pack=x",
            "git://h/r.git#a b",
            "git://h/r.git#+main",
        ] {
            assert!(Address::parse(text).unwrap().is_err(), "{text}");
        }
        assert_eq!(
            Address::parse("git://h/r.git?what=1").unwrap(),
            Err(AddressError::Key("what".to_owned()))
        );
    }
}
