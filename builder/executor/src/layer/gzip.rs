//! Parallel gzip whose bytes depend on the input and the level alone.
//!
//! The input is cut into blocks of 1 MiB. Each is deflated on its own, with the 32 KiB before it as
//! dictionary, and ends on a byte boundary (a sync flush), so that the concatenation is one deflate
//! stream in one gzip member (the method of pigz). Neither the number of threads nor the size of
//! the writes changes a byte.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Input bytes per block.
const BLOCK: usize = 1 << 20;
/// How far deflate looks back (RFC 1951, section 2).
const WINDOW: usize = 32 << 10;
/// RFC 1952, section 2.3: deflate, no flags, no time, no extra flags, unknown system. Nothing in
/// it tells when or where the layer was made.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Compresses what is written to it and passes it on to an inner writer.
///
/// Memory is bounded by a few blocks per thread, however large the input is.
#[derive(Debug)]
pub struct GzipWriter<W> {
    inner: W,
    level: Compression,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    crc: Crc,
    jobs: Option<SyncSender<Job>>,
    running: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    block: Vec<u8>,
    dictionary: Vec<u8>,
    level: Compression,
    last: bool,
    reply: SyncSender<io::Result<Vec<u8>>>,
}

impl<W: Write> GzipWriter<W> {
    /// Starts `threads` compressing threads (at least one) at `level` (1 fast to 9 small).
    ///
    /// # Errors
    /// When the header cannot be written or a thread cannot be started.
    pub fn new(mut inner: W, level: u32, threads: usize) -> io::Result<Self> {
        inner.write_all(&HEADER)?;
        let threads = threads.max(1);
        let (jobs, queue) = sync_channel(threads);
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::Builder::new()
                    .name("gzip".to_owned())
                    .spawn(move || work(&queue))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            inner,
            level: Compression::new(level),
            block: Vec::with_capacity(BLOCK),
            dictionary: Vec::new(),
            crc: Crc::new(),
            jobs: Some(jobs),
            running: VecDeque::new(),
            threads,
        })
    }

    /// Compresses the rest, writes the trailer and returns the inner writer.
    ///
    /// # Errors
    /// When the inner writer fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.submit(true)?;
        while !self.running.is_empty() {
            self.collect()?;
        }
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // each of its results was received above
        }
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.inner)
    }

    fn submit(&mut self, last: bool) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let tail = block[block.len().saturating_sub(WINDOW)..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        let (reply, result) = sync_channel(1);
        let job = Job {
            block,
            dictionary,
            level: self.level,
            last,
            reply,
        };
        if self.running.len() > 2 * self.threads.len() {
            self.collect()?;
        }
        let sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(io::Error::other("the compressing threads are gone"));
        }
        self.running.push_back(result);
        Ok(())
    }

    /// Writes the oldest block that is not written yet.
    fn collect(&mut self) -> io::Result<()> {
        if let Some(result) = self.running.pop_front() {
            let bytes = result
                .recv()
                .map_err(|_| io::Error::other("a compressing thread died"))??;
            self.inner.write_all(&bytes)?;
        }
        Ok(())
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        self.crc.update(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.submit(false)?;
        }
        Ok(count)
    }

    /// Does nothing: a block boundary must not depend on who flushes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        let _ = job.reply.send(deflate(&job)); // nobody waits any more after an error elsewhere
    }
}

fn deflate(job: &Job) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(job.level, false);
    if !job.dictionary.is_empty() {
        compress
            .set_dictionary(&job.dictionary)
            .map_err(io::Error::other)?;
    }
    let flush = if job.last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let mut output = Vec::with_capacity(job.block.len() / 2 + 1024);
    loop {
        let consumed = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let status = compress
            .compress_vec(&job.block[consumed..], &mut output, flush)
            .map_err(io::Error::other)?;
        let all = compress.total_in() == job.block.len() as u64;
        let done = match status {
            Status::StreamEnd => true,
            // Room that is left after a flush means that the flush is complete.
            Status::Ok | Status::BufError => !job.last && all && output.len() < output.capacity(),
        };
        if done {
            return Ok(output);
        }
        output.reserve(output.capacity().max(4096));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Bytes that compress somewhat, with matches across the block boundaries.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_u32;
        (0..len)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 7 < 4 {
                    b"kiln"[at % 4]
                } else {
                    (state >> 28) as u8 + b'a'
                }
            })
            .collect()
    }

    fn pack(input: &[u8], level: u32, threads: usize, piece: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new(), level, threads).unwrap();
        for chunk in input.chunks(piece) {
            writer.write_all(chunk).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn an_independent_reader_gets_the_input_back() {
        for len in [0, 1, WINDOW, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77] {
            let input = sample(len);
            for level in [1, 6, 9] {
                let packed = pack(&input, level, 3, 100_000);
                let mut output = Vec::new();
                // `GzDecoder` reads one member only and checks its CRC and length.
                flate2::read::GzDecoder::new(&packed[..])
                    .read_to_end(&mut output)
                    .unwrap();
                assert!(output == input, "{len} bytes at level {level}");
            }
        }
    }

    #[test]
    fn bytes_depend_neither_on_threads_nor_on_the_size_of_writes() {
        let input = sample(5 * BLOCK + 12_345);
        let expected = pack(&input, 1, 1, input.len());
        assert!(expected.len() < input.len());
        for (threads, piece) in [(2, 4096), (7, 1 << 20), (16, 999_983)] {
            assert!(
                pack(&input, 1, threads, piece) == expected,
                "{threads} threads, {piece}"
            );
        }
    }

    #[test]
    fn a_failing_inner_writer_is_an_error_and_no_hang() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if bytes.len() == HEADER.len() {
                    Ok(bytes.len())
                } else {
                    Err(io::ErrorKind::StorageFull.into())
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = GzipWriter::new(Full, 1, 2).unwrap();
        let result = writer
            .write_all(&sample(20 * BLOCK))
            .and_then(|()| writer.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
