//! Reading ahead: a blob is fetched, inflated, digested and written by a thread each. All of them
//! take about as long for a base image, so the cores share the work.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that change threads at once.
const CHUNK: usize = 1 << 18;
/// Chunks that may wait; bounds the memory to 4 MiB between two threads.
const WAITING: usize = 16;

type Chunk = Arc<Vec<u8>>;

/// Runs `produce` on a thread of its own and `consume` on this one. What `produce` hands to its
/// [`Sink`] is what `consume` reads.
///
/// An error that `produce` returns is also what `consume` reads last. `produce` is told by an
/// error when nobody reads any more.
pub fn read_ahead<P: Send, C>(
    produce: impl FnOnce(&mut Sink) -> io::Result<P> + Send,
    consume: impl FnOnce(Stream) -> C,
) -> (Option<P>, C) {
    let (product, (), consumed) = read_watched(produce, |_| (), consume);
    (product, consumed)
}

/// As [`read_ahead`], with a third thread, `watch`, that sees the same chunks.
pub fn read_watched<P: Send, W: Send, C>(
    produce: impl FnOnce(&mut Sink) -> io::Result<P> + Send,
    watch: impl FnOnce(Watched) -> W + Send,
    consume: impl FnOnce(Stream) -> C,
) -> (Option<P>, W, C) {
    let (sender, receiver) = sync_channel(WAITING);
    let (to_watcher, watched) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut sink = Sink {
                sender,
                watcher: Some(to_watcher),
            };
            match produce(&mut sink) {
                Ok(product) => Some(product),
                Err(error) => {
                    // When nobody reads any more, nobody has to be told.
                    drop(sink.sender.send(Err(error)));
                    None
                }
            }
        });
        let watcher = scope.spawn(move || watch(Watched(watched)));
        // The stream goes with `consume`, so the producer ends when that stops early.
        let consumed = consume(Stream {
            receiver,
            chunk: Chunk::default(),
            at: 0,
        });
        (joined(producer.join()), joined(watcher.join()), consumed)
    })
}

fn joined<T>(result: std::thread::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Where the producing thread puts bytes.
#[derive(Debug)]
pub struct Sink {
    sender: SyncSender<io::Result<Chunk>>,
    /// `None` when the watcher does not want to see more.
    watcher: Option<SyncSender<Chunk>>,
}

impl Sink {
    /// Hands on everything that `from` has.
    ///
    /// # Errors
    /// Those of `from`, and a broken pipe when nobody reads any more.
    pub fn take_all(&mut self, from: &mut dyn Read) -> io::Result<()> {
        loop {
            // Whole from the beginning: a buffer that grows makes many small reads.
            let mut chunk = vec![0; CHUNK];
            let filled = fill(from, &mut chunk)?;
            chunk.truncate(filled);
            if chunk.is_empty() {
                return Ok(());
            }
            let chunk = Chunk::new(chunk);
            if let Some(watcher) = &self.watcher
                && watcher.send(Chunk::clone(&chunk)).is_err()
            {
                self.watcher = None;
            }
            self.sender
                .send(Ok(chunk))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
    }
}

/// Reads until the buffer is full or nothing is left; returns how much it holds.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The chunks as a watcher sees them.
#[derive(Debug)]
pub struct Watched(Receiver<Chunk>);

impl Iterator for Watched {
    type Item = Arc<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.recv().ok()
    }
}

/// What the consumer reads.
#[derive(Debug)]
pub struct Stream {
    receiver: Receiver<io::Result<Chunk>>,
    chunk: Chunk,
    at: usize,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.receiver.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk?, 0),
                // The producer has said everything.
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order_and_the_product_with_it() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (product, read) = read_ahead(
            |sink| sink.take_all(&mut &bytes[..]).map(|()| "done"),
            |mut stream| {
                let mut read = Vec::new();
                stream.read_to_end(&mut read).map(|_| read)
            },
        );
        assert_eq!(product, Some("done"));
        assert!(read.unwrap() == bytes);
    }

    #[test]
    fn an_error_of_the_source_is_read_by_the_consumer() {
        let (product, read) = read_ahead(
            |sink| {
                sink.take_all(&mut &b"half"[..])?;
                Err::<(), _>(io::Error::other("the line broke"))
            },
            |mut stream| {
                let mut read = Vec::new();
                (
                    stream.read_to_end(&mut read).map_err(|e| e.to_string()),
                    read,
                )
            },
        );
        assert_eq!(product, None);
        assert_eq!(read, (Err("the line broke".to_owned()), b"half".to_vec()));
    }

    #[test]
    fn a_consumer_that_stops_early_ends_the_producer() {
        let (product, first) = read_ahead(
            |sink| sink.take_all(&mut io::repeat(7)),
            |mut stream| {
                let mut first = [0];
                stream.read_exact(&mut first).map(|()| first[0])
            },
        );
        assert_eq!(product, None);
        assert_eq!(first.unwrap(), 7);
    }
}
