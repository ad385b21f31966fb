//! Builds of an ordinary user, started by root.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::Command;

/// The ordinary user of machines that have no other.
pub const NOBODY: u32 = 65534;

/// Subordinate ids of that user, which no user of a test machine has.
const SUBORDINATE: &str = "nobody:1000000:65536\n";

/// `/etc/subuid` and `/etc/subgid` of the case's own, in a mount namespace; then no longer root.
const WITH_IDS: &str = r#"
for file in subuid subgid; do
  [ -e /etc/$file ] || : > /etc/$file
  mount --bind "$IDS" /etc/$file
done
unset IDS
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all -- "$@"
"#;

/// Which ids the user has besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Those of `newuidmap`.
    Subordinate,
    /// None.
    None,
}

/// A command that runs `program` as the ordinary user.
pub fn command(program: &Path, ids: Ids, scratch: &Path) -> Command {
    let file = scratch.join("ids");
    let lines = match ids {
        Ids::Subordinate => SUBORDINATE,
        Ids::None => "",
    };
    fs::write(&file, lines).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation=private", "/bin/sh", "-ec"])
        .args([WITH_IDS, "sh"])
        .arg(program)
        .env("IDS", &file);
    command
}

/// Makes everything below a path the ordinary user's, with the modes that it has.
pub fn give(path: &Path) {
    let stat = fs::symlink_metadata(path).unwrap();
    lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if !stat.is_symlink() {
        // A change of owner takes the set-user-id bit away.
        fs::set_permissions(path, stat.permissions()).unwrap();
    }
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}
