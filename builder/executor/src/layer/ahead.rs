//! Reading ahead: one thread inflates and digests a blob while another writes its files. Both
//! take about as long for a base image, so two cores halve the time.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that change threads at once.
const CHUNK: usize = 1 << 18;
/// Chunks that may wait; bounds the memory to 4 MiB.
const WAITING: usize = 16;

/// Runs `produce` on a thread of its own and `consume` on this one. What `produce` hands to its
/// [`Sink`] is what `consume` reads.
///
/// An error that `produce` returns is also what `consume` reads last. `produce` is told by an
/// error when nobody reads any more.
pub fn read_ahead<P: Send, C>(
    produce: impl FnOnce(&mut Sink) -> io::Result<P> + Send,
    consume: impl FnOnce(&mut dyn Read) -> C,
) -> (Option<P>, C) {
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut sink = Sink { sender };
            match produce(&mut sink) {
                Ok(product) => Some(product),
                Err(error) => {
                    // When nobody reads any more, nobody has to be told.
                    drop(sink.sender.send(Err(error)));
                    None
                }
            }
        });
        let mut stream = Stream {
            receiver,
            chunk: Vec::new(),
            at: 0,
        };
        let consumed = consume(&mut stream);
        // Lets the producer end when the consumer has stopped early.
        drop(stream);
        match producer.join() {
            Ok(product) => (product, consumed),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Where the producing thread puts bytes.
#[derive(Debug)]
pub struct Sink {
    sender: SyncSender<io::Result<Vec<u8>>>,
}

impl Sink {
    /// Hands on everything that `from` has.
    ///
    /// # Errors
    /// Those of `from`, and a broken pipe when nobody reads any more.
    pub fn take_all(&mut self, mut from: &mut dyn Read) -> io::Result<()> {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            Read::take(&mut from, CHUNK as u64).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                return Ok(());
            }
            self.sender
                .send(Ok(chunk))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
    }
}

struct Stream {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
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
            |stream| {
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
            |stream| {
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
            |stream| {
                let mut first = [0];
                stream.read_exact(&mut first).map(|()| first[0])
            },
        );
        assert_eq!(product, None);
        assert_eq!(first.unwrap(), 7);
    }
}
