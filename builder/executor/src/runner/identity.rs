//! Names of users and groups, looked up in the files of the image that is being built.

use std::io;
use std::path::Path;

use kiln_sandbox::User;

use crate::layer::view::View;

/// The most that is read of `/etc/passwd` and `/etc/group`.
const LIMIT: u64 = 16 << 20;

/// The largest user or group: to the kernel the number after it means "as it was" (chown(2)).
const MAX_ID: u32 = u32::MAX - 1;

/// Why an owner or user cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No such user in the image.
    #[error(
        "user {0} is not in /etc/passwd of the image: create it in an earlier RUN, or use a number"
    )]
    User(String),
    /// No such group in the image.
    #[error(
        "group {0} is not in /etc/group of the image: create it in an earlier RUN, or use a number"
    )]
    Group(String),
    /// A number that no user and no group has.
    #[error("{0} is no id of a user or group: they end at {MAX_ID}")]
    Number(String),
    /// The files of the image cannot be read.
    #[error("cannot read the image's /etc/passwd or /etc/group")]
    Read(#[source] io::Error),
}

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Numeric ids.
    pub user: User,
    /// The home directory, when the image knows the user.
    pub home: Option<String>,
}

struct PasswdLine {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// `USER`: `user`, `uid`, `user:group`, …; empty is root.
///
/// # Errors
/// [`IdentityError`]
pub fn user(view: &View, spec: &str) -> Result<Identity, IdentityError> {
    let passwd = passwd(view)?;
    let (name, group) = split(spec);
    let name = if name.is_empty() { "0" } else { name };
    // A number is one, whatever users are called (moby's `GetExecUser`).
    let known = passwd.iter().find(|line| match id(name) {
        Some(uid) => line.uid == uid,
        None => line.name == name,
    });
    let uid = match (known, id(name)) {
        (Some(line), _) => line.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(unknown(name, IdentityError::User)),
    };
    let lines = groups(view)?;
    let (gid, groups) = match group {
        Some(group) => (find_group(&lines, group)?, Vec::new()),
        None => (
            known.map_or(0, |line| line.gid),
            known.map_or(Vec::new(), |line| member_of(&lines, &line.name)),
        ),
    };
    // As BuildKit has it: the groups that list the user as a member, and its own.
    let mut groups = groups;
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    // The first one with that number counts (runc).
    let home = passwd.iter().find(|line| line.uid == uid);
    let home = home.map(|line| line.home.clone());
    Ok(Identity {
        user: User { uid, gid, groups },
        home,
    })
}

/// `--chown`: as `USER`, but a number without a group stands for the group too
/// (<https://docs.docker.com/reference/dockerfile/#copy---chown---chmod>). As in BuildKit `root` is
/// 0 whether the image has a list of users or not, and so is a group that is left out after a
/// colon.
///
/// # Errors
/// [`IdentityError`]
pub fn owner(view: &View, spec: &str) -> Result<(u32, u32), IdentityError> {
    let (name, group) = match spec.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (spec, None),
    };
    let (uid, own_gid) = match listless(name) {
        Some(id) => (id, id),
        None => {
            let user = user(view, name)?.user;
            (user.uid, user.gid)
        }
    };
    let gid = match group.map(|group| (group, listless(group))) {
        None => own_gid,
        Some((_, Some(gid))) => gid,
        Some((group, None)) => find_group(&groups(view)?, group)?,
    };
    Ok((uid, gid))
}

/// Whose a directory is that `WORKDIR` makes: the user's of `USER`, and root's where the image does
/// not know the name (BuildKit's `readUser`; a command of that user fails). A number is one of 32
/// bits with a sign and stands for the group too.
///
/// # Errors
/// [`IdentityError::Read`]
pub fn maker(view: &View, spec: &str) -> Result<(u32, u32), IdentityError> {
    // To chown(2) -1 means "as it was", and it was root's.
    let number = |text: &str| {
        let number = text.parse::<i32>().ok()?;
        Some(if number == -1 {
            0
        } else {
            number.cast_unsigned()
        })
    };
    // A group that is left out after a colon is root's.
    let (name, group) = match spec.split_once(':') {
        Some((name, "")) => (name, Some("0")),
        Some((name, group)) => (name, Some(group)),
        None => (spec, None),
    };
    let (uid, own_gid) = match number(name) {
        Some(id) => (id, id),
        None => {
            let users = passwd(view)?;
            let known = users.iter().find(|line| line.name == name);
            known.map_or((0, 0), |line| (line.uid, line.gid))
        }
    };
    let Some(group) = group else {
        return Ok((uid, own_gid));
    };
    if let Some(gid) = number(group) {
        return Ok((uid, gid));
    }
    let groups = groups(view)?;
    let known = groups.iter().find(|(known, ..)| known == group);
    Ok((uid, known.map_or(own_gid, |(_, gid, _)| *gid)))
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

/// Of a number the error is that it is none, and not that the image has no such name.
fn unknown(text: &str, of_name: fn(String) -> IdentityError) -> IdentityError {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let error = if is_number {
        IdentityError::Number
    } else {
        of_name
    };
    error(text.to_owned())
}

/// What needs no list of names.
fn listless(name: &str) -> Option<u32> {
    match name {
        "" | "root" => Some(0),
        name => id(name),
    }
}

/// The user and the group; further parts mean nothing (moby's `GetExecUser`).
fn split(spec: &str) -> (&str, Option<&str>) {
    let mut parts = spec.split(':');
    let name = parts.next().unwrap_or_default();
    (name, parts.next().filter(|group| !group.is_empty()))
}

fn passwd(view: &View) -> Result<Vec<PasswdLine>, IdentityError> {
    let text = read(view, "etc/passwd")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let mut fields = fields.skip(1);
            let uid = id(fields.next()?)?;
            // A line may end early.
            let gid = match fields.next() {
                None | Some("") => 0,
                Some(gid) => id(gid)?,
            };
            let home = fields.nth(1).unwrap_or_default().to_owned();
            Some(PasswdLine {
                name,
                uid,
                gid,
                home,
            })
        })
        .collect())
}

/// Name, number and members.
type Group = (String, u32, Vec<String>);

fn groups(view: &View) -> Result<Vec<Group>, IdentityError> {
    let text = read(view, "etc/group")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, id(fields.next()?)?);
            let members = fields.next().unwrap_or_default().split(',');
            Some((name.to_owned(), gid, members.map(str::to_owned).collect()))
        })
        .collect())
}

fn find_group(groups: &[Group], name: &str) -> Result<u32, IdentityError> {
    if let Some(gid) = id(name) {
        return Ok(gid);
    }
    let known = groups.iter().find(|(known, ..)| known == name);
    known
        .map(|(_, gid, _)| *gid)
        .ok_or_else(|| unknown(name, IdentityError::Group))
}

fn member_of(groups: &[Group], user: &str) -> Vec<u32> {
    groups
        .iter()
        .filter(|(.., members)| members.iter().any(|member| member == user))
        .map(|(_, gid, _)| *gid)
        .collect()
}

fn read(view: &View, path: &str) -> Result<String, IdentityError> {
    let bytes = view
        .read(Path::new(path), LIMIT)
        .map_err(IdentityError::Read)?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::delta::{Content, Delta, Kind, Meta, Node};
    use crate::layer::view::Tree;

    fn image() -> View {
        let mut delta = Delta::default();
        for (path, text) in [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
            ),
            (
                "etc/group",
                "root:x:0:\nstaff:x:50:app,other\nwheel:x:10:root\n",
            ),
        ] {
            let meta = Meta {
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: 0,
            };
            let mut node = Node::new(Kind::File(text.len() as u64), meta);
            node.content = Some(Content::Inline(text.as_bytes().to_vec()));
            delta.put(path.into(), node);
        }
        View::new(vec![Tree::Delta(delta.into())])
    }

    #[test]
    fn users_of_a_run() {
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, vec![0, 10], Some("/root")),
            ("root", 0, 0, vec![0, 10], Some("/root")),
            ("app", 1000, 1001, vec![1001, 50], Some("/home/app")),
            ("1000", 1000, 1001, vec![1001, 50], Some("/home/app")),
            ("app:staff", 1000, 50, vec![50], Some("/home/app")),
            ("app:77", 1000, 77, vec![77], Some("/home/app")),
            ("4242", 4242, 0, vec![0], None),
            ("4242:4343", 4242, 4343, vec![4343], None),
        ] {
            let found = user(&image(), spec).unwrap();
            let expected = Identity {
                user: User { uid, gid, groups },
                home: home.map(str::to_owned),
            };
            assert_eq!(found, expected, "{spec:?}");
        }
        assert!(
            user(&image(), "nobody")
                .unwrap_err()
                .to_string()
                .contains("user nobody")
        );
        assert!(
            user(&image(), "app:nogroup")
                .unwrap_err()
                .to_string()
                .contains("group nogroup")
        );
    }

    /// As the cases show it; BuildKit has no tests of its own for this.
    #[test]
    fn makers_of_a_directory() {
        for (spec, expected) in [
            ("app", (1000, 1001)),
            ("app:staff", (1000, 50)),
            ("app:nosuch", (1000, 1001)),
            ("app:", (1000, 0)),
            ("nosuch", (0, 0)),
            ("nosuch:staff", (0, 50)),
            ("55", (55, 55)),
            ("55:staff", (55, 50)),
            ("3000000000", (0, 0)),
            ("-1", (0, 0)),
        ] {
            assert_eq!(maker(&image(), spec).unwrap(), expected, "{spec}");
        }
        assert_eq!(maker(&View::default(), "app:app").unwrap(), (0, 0));
    }

    /// To the kernel -1 means "do not change".
    #[test]
    fn what_is_no_id_never_becomes_one() {
        for spec in ["4294967295", "1:4294967295", "4294967296", "1:99999999999"] {
            let number = spec.rsplit(':').next().unwrap();
            let expected = format!("{number} is no id of a user or group: they end at 4294967294");
            let error = user(&image(), spec).unwrap_err().to_string();
            assert_eq!(error, expected, "USER {spec}");
            let error = owner(&image(), spec).unwrap_err().to_string();
            assert_eq!(error, expected, "--chown={spec}");
        }
        assert_eq!(owner(&image(), "4294967294").unwrap().0, 4_294_967_294);
    }

    #[test]
    fn owners_of_a_copy() {
        for (spec, expected) in [
            ("app", (1000, 1001)),
            ("55", (55, 55)),
            ("app:staff", (1000, 50)),
            ("10:11", (10, 11)),
            ("app:", (1000, 0)),
            ("app:root", (1000, 0)),
            (":staff", (0, 50)),
        ] {
            assert_eq!(owner(&image(), spec).unwrap(), expected, "{spec}");
        }
        assert!(
            owner(&View::default(), "app").is_err(),
            "scratch has no users"
        );
        for (spec, expected) in [
            ("7:8", (7, 8)),
            ("root", (0, 0)),
            ("root:root", (0, 0)),
            ("0:root", (0, 0)),
        ] {
            assert_eq!(owner(&View::default(), spec).unwrap(), expected, "{spec}");
        }
    }
}
