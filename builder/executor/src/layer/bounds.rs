//! What a tar from anyone may cost. A bomb is an error before it fills memory or the disk; no
//! layer that somebody uses comes near these bounds.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of one tar: an index keeps each in memory.
pub const ENTRIES: u64 = 5_000_000;
/// Bytes of headers before one entry, long names and attributes included: a reader keeps them in
/// memory. Linux limits a name to 4 KiB and an attribute to 64 KiB.
pub const HEADERS: u64 = 4 << 20;
/// From this many bytes of files on, [`RATIO`] counts.
pub const BYTES: u64 = 16 << 30;
/// Bytes of files for each byte of the blob.
pub const RATIO: u64 = 200;

/// Why a tar is taken for a bomb.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Bomb {
    /// Too many files.
    #[error("it has more than {ENTRIES} entries, and is taken for a bomb")]
    Entries,
    /// Names or attributes without end.
    #[error("the headers of one entry have more than {HEADERS} bytes, and it is taken for a bomb")]
    Headers,
    /// Much from little.
    #[error(
        "its files have more than {BYTES} bytes, {RATIO} times its own size, and it is taken for a bomb"
    )]
    Files,
}

/// Looks at a file of `size` bytes that has `archived` of them in the tar.
///
/// # Errors
/// [`Bomb::Files`]
pub fn check_sparse(size: u64, archived: u64) -> Result<(), Bomb> {
    if size > BYTES && size / RATIO > archived {
        return Err(Bomb::Files);
    }
    Ok(())
}

/// A stream whose reader may not read further than to a [mark](Self::mark) that is moved as it
/// goes.
#[derive(Debug)]
pub struct Marked<'m, R> {
    inner: R,
    at: u64,
    mark: &'m Cell<u64>,
}

impl<'m, R: Read> Marked<'m, R> {
    /// Begins at the first byte.
    pub fn new(inner: R, mark: &'m Cell<u64>) -> Self {
        Self { inner, at: 0, mark }
    }

    /// The stream itself.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Marked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at > self.mark.get() {
            return Err(io::Error::other(Bomb::Headers));
        }
        let count = self.inner.read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Files of a tar, measured against the blob that they come from.
#[derive(Debug)]
pub struct Measured<'b> {
    /// How much of the blob was taken so far.
    blob: &'b AtomicU64,
    files: u64,
}

impl<'b> Measured<'b> {
    /// `blob` grows while the tar is read.
    pub fn new(blob: &'b AtomicU64) -> Self {
        Self { blob, files: 0 }
    }

    /// The bytes of one file.
    pub fn file<'f, R: Read>(&'f mut self, content: R) -> File<'f, 'b, R> {
        File {
            content,
            measured: self,
        }
    }

    fn add(&mut self, count: usize) -> Result<(), Bomb> {
        self.files += count as u64;
        let blob = self.blob.load(Ordering::Relaxed);
        if self.files > BYTES && self.files > blob.saturating_mul(RATIO) {
            return Err(Bomb::Files);
        }
        Ok(())
    }
}

/// See [`Measured::file`].
#[derive(Debug)]
pub struct File<'f, 'b, R> {
    content: R,
    measured: &'f mut Measured<'b>,
}

impl<R: Read> Read for File<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.measured.add(count).map_err(io::Error::other)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_may_come_from_much() {
        let blob = AtomicU64::new(BYTES / RATIO + 1);
        let mut measured = Measured::new(&blob);
        measured.files = BYTES;
        let mut byte = [0];
        assert_eq!(measured.file(io::repeat(1)).read(&mut byte).unwrap(), 1);
        blob.store(BYTES / RATIO, Ordering::Relaxed);
        let error = measured.file(io::repeat(1)).read(&mut byte).unwrap_err();
        let bomb = error.into_inner().unwrap().downcast::<Bomb>().unwrap();
        assert_eq!(*bomb, Bomb::Files);
    }

    #[test]
    fn a_reader_may_not_pass_the_mark_until_it_is_moved() {
        let mark = Cell::new(2);
        let mut marked = Marked::new(io::repeat(1), &mark);
        let mut bytes = [0; 3];
        assert_eq!(marked.read(&mut bytes).unwrap(), 3);
        assert!(marked.read(&mut bytes).is_err());
        mark.set(10);
        assert_eq!(marked.read(&mut bytes).unwrap(), 3);
    }
}
