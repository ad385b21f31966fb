//! skaffold's `inputDigest`: names and contents of the sources, and nothing
//! else (build arguments do not count, which [`super::content`] does better).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// 64 hexadecimal digits over paths relative to the context and contents, in
/// the order given. The same files give the same digest on every machine.
pub fn input_digest<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a Path)>,
) -> io::Result<String> {
    let mut all = Sha256::new();
    for (name, path) in files {
        let mut one = Sha256::new();
        let metadata = path.symlink_metadata()?;
        if metadata.is_symlink() {
            one.update(path.read_link()?.as_os_str().as_encoded_bytes());
        } else if metadata.is_file() {
            read_into(&mut one, path)?;
        }
        all.update((name.len() as u64).to_le_bytes());
        all.update(name);
        all.update(one.finalize());
    }
    Ok(all
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn read_into(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_count_and_the_folder_does_not() {
        let digest_of = |name: &str, content: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            std::fs::write(&path, content).unwrap();
            input_digest([(name, path.as_path())]).unwrap()
        };
        let one = digest_of("main.go", "package main");
        assert_eq!(one.len(), 64);
        assert_eq!(one, digest_of("main.go", "package main"));
        assert_ne!(one, digest_of("other.go", "package main"));
        assert_ne!(one, digest_of("main.go", "package other"));
    }
}
