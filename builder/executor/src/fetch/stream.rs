//! A download as a reader for code that blocks.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use kiln_registry::ServiceAnswer;

use crate::remote::Remote;

/// The body of an answer.
pub(super) struct Body<'r> {
    remote: &'r Remote,
    answer: ServiceAnswer,
    rest: Bytes,
}

impl<'r> Body<'r> {
    pub(super) fn new(remote: &'r Remote, answer: ServiceAnswer) -> Self {
        Self {
            remote,
            answer,
            rest: Bytes::new(),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.remote.wait(self.answer.chunk()) {
                Ok(Some(bytes)) => self.rest = bytes,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
