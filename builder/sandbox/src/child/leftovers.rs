//! Kills what a command leaves behind where there is no pid namespace to do it.

use std::fs;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};

/// Kills every present descendant of this process, once. Returns how many there were.
pub(super) fn kill_descendants() -> usize {
    let descendants = descendants();
    for pid in &descendants {
        // It fails for one that ended since; nothing else is to be done about that one.
        let _ = kill_process(*pid, Signal::KILL);
    }
    descendants.len()
}

/// Kills and reaps until there is no child left. A descendant that forks between two looks at
/// the process list is found by the next one: as a subreaper, this process adopts the orphans.
pub(super) fn kill_all_and_reap() {
    loop {
        let killed = kill_descendants();
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            // A child that /proc does not show cannot be killed by this way; do not wait for it.
            Ok(None) if killed == 0 => return,
            Ok(None) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

fn descendants() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parents: Vec<(i32, i32)> = entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read(entry.path().join("stat")).ok()?;
            Some((pid, parent_of(&stat)?))
        })
        .collect();
    descendants_of(getpid().as_raw_nonzero().get(), &parents)
        .into_iter()
        .filter_map(Pid::from_raw)
        .collect()
}

/// The fourth field of `/proc/<pid>/stat`; the second, the name, may hold spaces and brackets.
fn parent_of(stat: &[u8]) -> Option<i32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[end + 1..])
        .ok()?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn descendants_of(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_of_a_process_with_an_odd_name() {
        assert_eq!(parent_of(b"42 (a) b (c)) S 7 42 42 0"), Some(7));
    }

    #[test]
    fn grandchildren_are_descendants_and_siblings_are_not() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1)];
        assert_eq!(descendants_of(2, &parents), [3, 4]);
    }
}
