//! Which files a program needs to run in an otherwise empty root file system:
//! its ELF interpreter and its shared objects, found without `ld.so.cache`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

type Header = elf::FileHeader64<Endianness>;

/// A program cannot be taken along.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a 64-bit ELF file.
    #[error("{} is not a 64-bit ELF program", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: object::Error,
    },
    /// A shared object is nowhere.
    #[error("{} needs {name}, which is in none of {}", path.display(), searched.join(", "))]
    NotFound {
        /// Who needs it.
        path: PathBuf,
        /// What.
        name: String,
        /// Where it was looked for.
        searched: Vec<String>,
    },
}

/// What one ELF file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    machine: u16,
    interpreter: Option<String>,
    libraries: Vec<String>,
    runpath: Vec<String>,
}

/// The files that `program` needs, by the path at which they must be found
/// (their own); empty for a static program. The program itself is not in it.
pub(super) fn closure(program: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, ElfError> {
    let mut files = BTreeMap::new();
    let mut queue = vec![program.to_owned()];
    while let Some(path) = queue.pop() {
        let needs = read(&path)?;
        if let Some(interpreter) = &needs.interpreter {
            files.insert(PathBuf::from(interpreter), PathBuf::from(interpreter));
        }
        for name in &needs.libraries {
            let found = locate(&path, name, &needs)?;
            if files.insert(found.clone(), found.clone()).is_none() {
                queue.push(found);
            }
        }
    }
    Ok(files)
}

fn locate(path: &Path, name: &str, needs: &Needs) -> Result<PathBuf, ElfError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let origin = path
        .parent()
        .unwrap_or(Path::new("/"))
        .display()
        .to_string();
    let mut searched: Vec<String> = needs
        .runpath
        .iter()
        .map(|dir| {
            dir.replace("${ORIGIN}", &origin)
                .replace("$ORIGIN", &origin)
        })
        .collect();
    searched.extend(standard_folders(needs.machine));
    match searched
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.is_file())
    {
        Some(file) => Ok(file),
        None => Err(ElfError::NotFound {
            path: path.to_owned(),
            name: name.to_owned(),
            searched,
        }),
    }
}

/// Where the dynamic loaders of Debian, Fedora and Alpine look by themselves.
fn standard_folders(machine: u16) -> Vec<String> {
    let triple = match machine {
        elf::EM_AARCH64 => "aarch64-linux-gnu",
        _ => "x86_64-linux-gnu",
    };
    let multi = ["/lib", "/usr/lib"].map(|dir| format!("{dir}/{triple}"));
    let plain = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"];
    multi.into_iter().chain(plain.map(str::to_owned)).collect()
}

fn read(path: &Path) -> Result<Needs, ElfError> {
    let bytes = fs::read(path).map_err(|source| ElfError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&bytes).map_err(|source| ElfError::Format {
        path: path.to_owned(),
        source,
    })
}

fn parse(bytes: &[u8]) -> Result<Needs, object::Error> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    let mut needs = Needs {
        machine: header.e_machine(endian),
        ..Needs::default()
    };
    let mut dynamic = None;
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, bytes)? {
            needs.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
        dynamic = segment.dynamic(endian, bytes)?.or(dynamic);
    }
    let entries = dynamic.unwrap_or_default();
    let value = |tag: i64| {
        entries
            .iter()
            .find(|entry| entry.d_tag(endian) == tag)
            .map(|entry| entry.d_val(endian))
    };
    let Some(table) = value(elf::DT_STRTAB) else {
        return Ok(needs);
    };
    let size = value(elf::DT_STRSZ).unwrap_or(0);
    let strings = segments
        .iter()
        .find_map(|segment| {
            segment
                .data_range(endian, bytes, table, size)
                .ok()
                .flatten()
        })
        .unwrap_or_default();
    let text = |offset: u64| {
        let start = usize::try_from(offset).ok()?;
        let rest = strings.get(start..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    for entry in entries {
        let tag = entry.d_tag(endian);
        let Some(text) = text(entry.d_val(endian)) else {
            continue;
        };
        if tag == elf::DT_NEEDED {
            needs.libraries.push(text);
        } else if tag == elf::DT_RUNPATH || tag == elf::DT_RPATH {
            needs.runpath.extend(
                text.split(':')
                    .filter(|dir| !dir.is_empty())
                    .map(str::to_owned),
            );
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Compares with what the dynamic loader itself says.
    #[test]
    fn the_closure_is_what_the_loader_loads() {
        let program = std::env::current_exe().unwrap();
        let files = closure(&program).unwrap();
        let interpreter = read(&program).unwrap().interpreter;
        let Some(interpreter) = interpreter else {
            assert!(
                files.is_empty(),
                "a static program needs nothing: {files:?}"
            );
            return;
        };
        let output = Command::new(&interpreter)
            .arg("--list")
            .arg(&program)
            .output()
            .unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        for line in listed.lines().filter(|line| line.contains("=> /")) {
            let name = line.split_whitespace().next().unwrap();
            // `ld.so` lists itself under the name that libc asks for.
            let known = files
                .keys()
                .any(|path| path.file_name().unwrap() == Path::new(name).file_name().unwrap());
            assert!(known, "{name} is missing from {files:?}");
        }
        assert!(files.contains_key(Path::new(&interpreter)));
    }

    #[test]
    fn what_is_no_program_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        fs::write(&path, "#!/bin/sh\necho").unwrap();
        let error = closure(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is not a 64-bit ELF program", path.display())
        );
    }
}
