//! `RUN --mount`: the option grammar of BuildKit (`instructions/commands_runmount.go`).

use crate::expand::{self, ExpandError, Variables};
use crate::instruction::Escape;
use crate::position::Position;
use crate::suggest;

/// A `--mount` flag as written. Its values may hold variables, so it becomes a [`Mount`] only
/// when the scope of its `RUN` is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The text after `--mount=`.
    pub text: String,
    /// `from=`, which cannot hold variables: what a stage needs is known without a scope.
    pub from: Option<String>,
    /// Where the flag stands.
    pub position: Position,
}

/// What kind of file system is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// A directory or file of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that survives the build.
    Cache,
    /// A file system in memory.
    Tmpfs,
    /// A secret, as a file or a variable.
    Secret,
    /// The socket of an SSH agent.
    Ssh,
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

/// How concurrent builds use a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// At the same time.
    #[default]
    Shared,
    /// Each gets its own when the cache is in use.
    Private,
    /// One after the other.
    Locked,
}

const SHARINGS: [(&str, Sharing); 3] = [
    ("shared", Sharing::Shared),
    ("private", Sharing::Private),
    ("locked", Sharing::Locked),
];

/// A mount with its variables expanded and its options checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `from`: a stage, a named context or an image.
    pub from: Option<String>,
    /// `source`, `src`.
    pub source: Option<String>,
    /// `target`, `dst`, `destination`. [`Mount::target_path`] applies the defaults.
    pub target: Option<String>,
    /// `ro`, `rw`; read-only unless the mount is a cache or a tmpfs.
    pub read_only: bool,
    /// `size` of a tmpfs in bytes.
    pub size: Option<u64>,
    /// `id`. [`Mount::identity`] applies the defaults.
    pub id: Option<String>,
    /// `sharing` of a cache.
    pub sharing: Sharing,
    /// `required`, for a secret or SSH.
    pub required: bool,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `env` of a secret: the variable that holds it.
    pub env: Option<String>,
}

/// Why a `--mount` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The text is no comma-separated record.
    #[error("`{0}` is no comma-separated list of options")]
    NotCsv(String),
    /// A field without `=` that is no switch.
    #[error("the mount option `{0}` has no value")]
    NoValue(String),
    /// A key that no mount has.
    #[error("unknown mount option `{key}`")]
    UnknownKey {
        /// The key.
        key: String,
        /// A known key that is close.
        nearest: Option<String>,
    },
    /// A type that is not one of the five.
    #[error("unknown mount type `{kind}`")]
    UnknownKind {
        /// The type.
        kind: String,
        /// A known type that is close.
        nearest: Option<String>,
    },
    /// A value that its key does not take.
    #[error("`{value}` is no value for the mount option `{key}`")]
    BadValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// A key that this type does not take.
    #[error("a mount of type {kind} has no option `{key}`")]
    NotForKind {
        /// The key.
        key: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// `from` with a variable.
    #[error("`from={0}`: the stage of a mount cannot be a variable")]
    VariableFrom(String),
    /// A secret that nothing names.
    #[error("a secret mount needs an id, a source or a target")]
    AnonymousSecret,
    /// A secret with `source` and `id`.
    #[error("a secret mount has either a source or an id, not both")]
    SourceAndId,
    /// The mount would cover the root directory.
    #[error("a mount cannot cover `/`")]
    CoversRoot,
    /// A value that cannot be expanded.
    #[error("the mount option `{0}` cannot be expanded")]
    Expand(String, #[source] ExpandError),
}

impl MountError {
    /// What the author can do about it.
    pub fn hint(&self) -> Option<String> {
        let nearest =
            |nearest: &Option<String>| nearest.as_ref().map(|n| format!("did you mean `{n}`?"));
        Some(match self {
            Self::NotCsv(_) => "write type=<type>,option=value,…".to_owned(),
            Self::NoValue(key) => format!("write {key}=<value>"),
            Self::UnknownKey { nearest: n, .. } => return nearest(n),
            Self::UnknownKind { nearest: n, .. } => {
                return nearest(n).or_else(|| {
                    Some("the types are bind, cache, tmpfs, secret and ssh".to_owned())
                });
            }
            Self::BadValue { expected, .. } => format!("write {expected}"),
            Self::NotForKind { key, .. } => format!("remove `{key}`"),
            Self::VariableFrom(from) => {
                format!("add a stage `FROM {from} AS <name>` and write from=<name>")
            }
            Self::AnonymousSecret => "add id=<name>".to_owned(),
            Self::SourceAndId => "remove one of them".to_owned(),
            Self::CoversRoot => "name a target directory".to_owned(),
            Self::Expand(_, source) => return source.hint().map(str::to_owned),
        })
    }
}

impl MountFlag {
    /// Reads the text of a flag. Its options are checked by [`Self::resolve`]: in a stage that
    /// nothing needs they may be what they like (BuildKit).
    pub fn parse(text: &str, position: Position) -> Result<Self, MountError> {
        let mut from = None;
        for field in fields(text)? {
            if let Some((key, value)) = field.split_once('=')
                && key.eq_ignore_ascii_case("from")
            {
                if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                    return Err(MountError::VariableFrom(value.to_owned()));
                }
                from = Some(value.to_owned()).filter(|from| !from.is_empty());
            }
        }
        Ok(Self {
            text: text.to_owned(),
            from,
            position,
        })
    }

    /// The mount, with the variables of the `RUN`'s scope.
    pub fn resolve(&self, variables: &dyn Variables, escape: Escape) -> Result<Mount, MountError> {
        let mut mount = Mount::default();
        let mut read_only = None;
        let mut sharing = None;
        for field in fields(&self.text)? {
            let Some((key, value)) = field.split_once('=') else {
                match field.to_ascii_lowercase().as_str() {
                    "readonly" | "ro" => read_only = Some(true),
                    "readwrite" | "rw" => read_only = Some(false),
                    "required" => mount.required = mount.only_for("required", &CREDENTIALS)?,
                    _ => return Err(MountError::NoValue(field)),
                }
                continue;
            };
            let key = key.to_ascii_lowercase();
            let value = expand::expand(value, variables, escape)
                .map_err(|source| MountError::Expand(key.clone(), source))?;
            match key.as_str() {
                "readonly" | "ro" => read_only = Some(boolean(&key, &value)?),
                "readwrite" | "rw" => read_only = Some(!boolean(&key, &value)?),
                "sharing" => sharing = Some(one_of(&SHARINGS, &key, &value)?),
                _ => mount.set(&key, value)?,
            }
        }
        mount.finish(read_only, sharing)
    }
}

const CREDENTIALS: [MountKind; 2] = [MountKind::Secret, MountKind::Ssh];
const OWNED: [MountKind; 3] = [MountKind::Secret, MountKind::Ssh, MountKind::Cache];

impl MountKind {
    /// The name that `type=` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

impl Mount {
    fn set(&mut self, key: &str, value: String) -> Result<(), MountError> {
        match key {
            "type" => {
                let lower = value.to_ascii_lowercase();
                let known = KINDS.iter().find(|(name, _)| *name == lower);
                let (_, kind) = known.ok_or_else(|| MountError::UnknownKind {
                    nearest: suggest::nearest(&value, KINDS.iter().map(|(name, _)| *name)),
                    kind: value,
                })?;
                self.kind = *kind;
            }
            "from" => self.from = Some(value).filter(|value| !value.is_empty()),
            "source" | "src" => self.source = Some(value).filter(|value| !value.is_empty()),
            "target" | "dst" | "destination" => {
                self.target = Some(value).filter(|value| !value.is_empty());
            }
            "id" => self.id = Some(value).filter(|value| !value.is_empty()),
            "env" => self.env = Some(value).filter(|value| !value.is_empty()),
            "required" => {
                self.only_for("required", &CREDENTIALS)?;
                self.required = boolean(key, &value)?;
            }
            "size" => {
                self.only_for("size", &[MountKind::Tmpfs])?;
                self.size = Some(
                    bytes(&value).ok_or_else(|| bad(key, &value, "a size such as 64m or 1g"))?,
                );
            }
            "mode" => {
                let mode = u32::from_str_radix(&value, 8);
                self.mode = Some(mode.map_err(|_| bad(key, &value, "an octal mode such as 0400"))?);
            }
            "uid" => self.uid = Some(number(key, &value)?),
            "gid" => self.gid = Some(number(key, &value)?),
            _ => {
                return Err(MountError::UnknownKey {
                    nearest: suggest::nearest(key, KEYS),
                    key: key.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// `true`, when a mount of this kind takes `key`.
    fn only_for(&self, key: &'static str, kinds: &[MountKind]) -> Result<bool, MountError> {
        if kinds.contains(&self.kind) {
            Ok(true)
        } else {
            Err(MountError::NotForKind {
                key,
                kind: self.kind.name(),
            })
        }
    }

    fn finish(
        mut self,
        read_only: Option<bool>,
        sharing: Option<Sharing>,
    ) -> Result<Self, MountError> {
        for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
            if value.is_some() {
                self.only_for(key, &OWNED)?;
            }
        }
        if let Some(sharing) = sharing {
            self.only_for("sharing", &[MountKind::Cache])?;
            self.sharing = sharing;
        }
        if self.env.is_some() {
            self.only_for("env", &[MountKind::Secret])?;
        }
        if self.kind == MountKind::Secret {
            if self.from.is_some() {
                return Err(MountError::NotForKind {
                    key: "from",
                    kind: "secret",
                });
            }
            if self.source.is_some() && self.id.is_some() {
                return Err(MountError::SourceAndId);
            }
            if self.source.is_none() && self.id.is_none() && self.target.is_none() {
                return Err(MountError::AnonymousSecret);
            }
        }
        // Nothing is there to be shown (BuildKit fails when the command runs).
        let kind = match self.kind {
            MountKind::Cache if self.from.is_none() => Some("cache without `from`"),
            MountKind::Tmpfs => Some("tmpfs"),
            _ => None,
        };
        let is_root = |source: &String| absolute("/", Some(source)) == "/";
        if let (Some(kind), Some(_)) = (kind, self.source.as_ref().filter(|one| !is_root(one))) {
            return Err(MountError::NotForKind {
                key: "source",
                kind,
            });
        }
        let writable = matches!(self.kind, MountKind::Cache | MountKind::Tmpfs);
        self.read_only = read_only.unwrap_or(!writable);
        Ok(self)
    }

    /// The identity of a cache, a secret or an SSH agent: `id` (or the `source` of a secret),
    /// else the
    /// target of a cache (cleaned, not joined with the working directory), the last part of the target of a secret, and `default` for
    /// SSH. `None` for the other kinds.
    pub fn identity(&self) -> Option<String> {
        match self.kind {
            MountKind::Bind | MountKind::Tmpfs => None,
            MountKind::Cache => Some(self.id.clone().unwrap_or_else(|| {
                let target = self.target.as_deref().unwrap_or_default();
                if target.starts_with('/') {
                    absolute("/", Some(target))
                } else {
                    clean(target)
                }
            })),
            MountKind::Secret => self.source.clone().or_else(|| self.id.clone()).or_else(|| {
                self.target
                    .as_deref()
                    .map(|target| last_part(target).to_owned())
            }),
            MountKind::Ssh => Some(self.id.clone().unwrap_or_else(|| "default".to_owned())),
        }
    }

    /// Where the mount appears: the target, relative to `workdir`. A secret without one is at
    /// `/run/secrets/<last part of its id>`, or nowhere when it is given as a variable; the path
    /// of an SSH socket without one is the caller's choice. Both are `None`, the former only with
    /// `env`.
    pub fn target_path(&self, workdir: &str) -> Result<Option<String>, MountError> {
        let path = match (&self.target, self.kind) {
            (None, MountKind::Ssh) => return Ok(None),
            (None, MountKind::Secret) if self.env.is_some() => return Ok(None),
            (None, MountKind::Secret) => {
                let id = self.identity().unwrap_or_default();
                format!("/run/secrets/{}", last_part(&id))
            }
            (target, _) => absolute(workdir, target.as_deref()),
        };
        if path == "/" {
            Err(MountError::CoversRoot)
        } else {
            Ok(Some(path))
        }
    }
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
}

/// A relative path without `.`, inner `..` and doubled slashes, as Go's `path.Clean`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    }
}

/// `path` below `workdir`, cleaned: no `.`, `..` or doubled slashes.
fn absolute(workdir: &str, path: Option<&str>) -> String {
    let path = path.unwrap_or_default();
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{workdir}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn bad(key: &str, value: &str, expected: &'static str) -> MountError {
    MountError::BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, MountError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(bad(key, value, "true or false")),
    }
}

fn number(key: &str, value: &str) -> Result<u32, MountError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // The largest of all means "as it was" to the kernel (chown(2)).
    let number = value.parse().ok().filter(|id| digits && *id != u32::MAX);
    number.ok_or_else(|| bad(key, value, "a decimal number up to 4294967294"))
}

fn one_of<T: Copy>(table: &[(&str, T)], key: &str, value: &str) -> Result<T, MountError> {
    let lower = value.to_ascii_lowercase();
    let found = table.iter().find(|(name, _)| *name == lower);
    found
        .map(|(_, item)| *item)
        .ok_or_else(|| bad(key, value, "shared, private or locked"))
}

/// A size as Docker writes it (`go-units`, `RAMInBytes`): `64m`, `1.5GiB`, `100`; powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let end = lower
        .find(|ch: char| !ch.is_ascii_digit() && ch != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = unit.trim_start_matches(' ');
    let power = match unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(unit)
    {
        "" if unit == "ib" => return None,
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * 1024_f64.powi(power);
    // A tmpfs beyond 2^63 bytes cannot be asked for; below it the conversion is exact enough.
    (bytes.is_finite() && (0.0..9.2e18).contains(&bytes)).then_some(bytes as u64)
}

/// The fields of one CSV record (RFC 4180 quoting), as Go's `encoding/csv` reads it.
fn fields(text: &str) -> Result<Vec<String>, MountError> {
    let error = || MountError::NotCsv(text.to_owned());
    if text.is_empty() {
        return Err(error());
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted).ok_or_else(error)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if !rest.starts_with('"') && field.contains('"') {
            return Err(error());
        }
        fields.push(field);
        match tail.strip_prefix(',') {
            Some(next) => rest = next,
            None if tail.is_empty() => return Ok(fields),
            None => return Err(error()),
        }
    }
}

/// The field and what follows its closing quote.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
