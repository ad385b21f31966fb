//! Which volumes the pod mounted, read from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The files that a container runtime mounts for the network, each over the image's own.
pub const NETWORK_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// Trees that every sandbox makes for itself. Runtimes mount the termination message file
/// (`/dev/termination-log`) there too.
const OWN_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// One line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is, as the process sees it.
    pub mount_point: PathBuf,
    /// The file system's type, for example `ext4`.
    pub fs_type: String,
    /// The file system's source, for example `/dev/vda`.
    pub source: OsString,
}

/// The mounts of the calling process, in the kernel's order.
///
/// # Errors
/// When `/proc/self/mountinfo` is not readable.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// Reads the text of a `mountinfo` file; lines that do not have its form are left out.
#[must_use]
pub fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let mount_point = words.nth(4)?;
    // Optional fields end with a single hyphen.
    words.by_ref().find(|word| *word == b"-")?;
    let fs_type = words.next()?;
    let source = words.next()?;
    Some(Mount {
        mount_point: PathBuf::from(OsString::from_vec(unescape(mount_point))),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        source: OsString::from_vec(unescape(source)),
    })
}

/// Space, tab, newline and backslash are written as three octal digits after a backslash.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(value) = octal {
            plain.push(value);
            rest = &tail[3..];
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    plain
}

/// The mount points that are the user's volumes: not `/`, nothing of `/proc`, `/sys` and `/dev`,
/// none of the [network files](NETWORK_FILES), nothing at or below an `own` directory of the
/// caller. Sorted, so that a volume comes before those mounted below it, and each once.
#[must_use]
pub fn volumes(mounts: &[Mount], own: &[PathBuf]) -> Vec<PathBuf> {
    let mut volumes: Vec<PathBuf> = mounts
        .iter()
        .map(|mount| mount.mount_point.as_path())
        .filter(|path| *path != Path::new("/"))
        .filter(|path| !OWN_TREES.iter().any(|tree| path.starts_with(tree)))
        .filter(|path| !NETWORK_FILES.iter().any(|file| *path == Path::new(file)))
        .filter(|path| !own.iter().any(|own| path.starts_with(own)))
        .map(Path::to_path_buf)
        .collect();
    volumes.sort();
    volumes.dedup();
    volumes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As containerd writes it for an ordinary pod, shortened.
    const POD: &str = "\
1226 1154 0:122 / / rw,relatime master:333 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c
1227 1226 0:124 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1228 1226 0:125 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
1231 1226 0:121 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
1240 1226 254:1 /pods/1/etc-hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
1241 1228 254:1 /pods/1/term /dev/termination-log rw,relatime - ext4 /dev/vda1 rw
1242 1226 254:1 /c/1/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw
1243 1226 254:1 /c/1/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw
1244 1226 254:1 /pods/1/volumes/cache /cache rw,relatime shared:1 master:2 - ext4 /dev/vda1 rw
1245 1226 254:1 /pods/1/volumes/my\\040dir /work\\040space rw,relatime - ext4 /dev/vda1 rw
1246 1226 0:118 / /run/secrets/kubernetes.io/serviceaccount ro,relatime - tmpfs tmpfs rw
1247 1226 254:1 /pods/1/volumes/store /kaniko/store rw,relatime - ext4 /dev/vda1 rw
1154 1227 0:127 / /proc/acpi ro,relatime - tmpfs tmpfs ro
";

    #[test]
    fn volumes_of_a_pod() {
        let own = [PathBuf::from("/kaniko/store")];
        assert_eq!(
            volumes(&parse(POD.as_bytes()), &own),
            [
                "/cache",
                "/run/secrets/kubernetes.io/serviceaccount",
                "/work space"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn optional_fields_of_any_number() {
        let mounts = parse(POD.as_bytes());
        assert_eq!(mounts.len(), 13);
        assert_eq!(mounts[0].fs_type, "overlay");
        assert_eq!(mounts[8].source, "/dev/vda1");
        assert_eq!(mounts[8].fs_type, "ext4");
    }

    #[test]
    fn own_directories_are_no_prefix_of_other_names() {
        let line = b"1 2 3:4 / /kanikocache rw - ext4 /dev/x rw";
        assert_eq!(
            volumes(&parse(line), &[PathBuf::from("/kaniko")]),
            [PathBuf::from("/kanikocache")]
        );
    }
}
