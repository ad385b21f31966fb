//! Reading gzip (RFC 1952). The inflating is flate2's; its own readers take a third longer for
//! the same bytes, and inflating is what a cold build waits for.

use std::io::{self, BufRead, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// Flags of a header (section 2.3.1).
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;
/// What a member begins with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The only compression method there is.
const DEFLATE: u8 = 8;

/// Bytes behind the last member that are no gzip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// They are an error: who reads a layer otherwise must not find another one.
    Refused,
    /// They are nobody's, as for gzip(1): padding of a tape, or of a download.
    Ignored,
}

/// What a gzip file holds, of all of its members. Checksums and lengths are verified.
#[derive(Debug)]
pub struct Gunzip<R> {
    input: R,
    behind: Behind,
    inflate: Decompress,
    crc: Crc,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Before the first member.
    Start,
    /// Inside of a member.
    Body,
    /// After a member; more may follow.
    Between,
    End,
}

impl<R: BufRead> Gunzip<R> {
    /// Reads from the first byte of a gzip file.
    pub fn new(input: R, behind: Behind) -> Self {
        Self {
            input,
            behind,
            inflate: Decompress::new(false),
            crc: Crc::new(),
            state: State::Start,
        }
    }

    /// Begins the next member, or ends.
    fn begin(&mut self) -> io::Result<()> {
        if self.state == State::Between {
            let next = self.input.fill_buf()?;
            let is_member = next.first() == Some(&MAGIC[0]);
            if next.is_empty() || (!is_member && self.behind == Behind::Ignored) {
                self.state = State::End;
                return Ok(());
            }
        }
        self.header()?;
        self.inflate.reset(false);
        self.crc.reset();
        self.state = State::Body;
        Ok(())
    }

    fn header(&mut self) -> io::Result<()> {
        let [m1, m2, method, flags, ..] = self.take::<10>()?;
        if [m1, m2] != MAGIC {
            return Err(broken("there is something after its end that is no gzip"));
        }
        if method != DEFLATE || flags & RESERVED != 0 {
            return Err(broken("its header asks for what RFC 1952 does not know"));
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes(self.take()?);
            self.skip(u64::from(length))?;
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                while self.take::<1>()? != [0] {}
            }
        }
        if flags & HEADER_CRC != 0 {
            // It is not verified, as in most readers.
            self.skip(2)?;
        }
        Ok(())
    }

    fn trailer(&mut self) -> io::Result<()> {
        let sum = u32::from_le_bytes(self.take()?);
        let amount = u32::from_le_bytes(self.take()?);
        if (sum, amount) != (self.crc.sum(), self.crc.amount()) {
            return Err(broken("its checksum is wrong"));
        }
        self.state = State::Between;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.input.by_ref().take(count), &mut io::sink())?;
        if skipped < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Inflates once; 0 bytes are no end.
    fn inflate(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = self.input.fill_buf()?;
        let is_last = input.is_empty();
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(input, buffer, FlushDecompress::None)
            .map_err(io::Error::other)?;
        let read = difference(self.inflate.total_in(), read);
        let written = difference(self.inflate.total_out(), written);
        self.input.consume(read);
        self.crc.update(&buffer[..written]);
        if status == Status::StreamEnd {
            self.trailer()?;
        } else if is_last && written == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        } else if read == 0 && written == 0 {
            return Err(broken("it stands still"));
        }
        Ok(written)
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::End => return Ok(0),
                State::Start | State::Between => self.begin()?,
                State::Body => {
                    let count = self.inflate(buffer)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
            }
        }
    }
}

/// What a call moved; never more than the length of a slice.
fn difference(now: u64, before: u64) -> usize {
    usize::try_from(now - before).unwrap_or(usize::MAX)
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("broken gzip: {why}"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let header = flate2::GzBuilder::new()
            .filename("a name")
            .comment("a remark")
            .extra("more");
        let mut gzip = header.write(Vec::new(), flate2::Compression::default());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn sample() -> Vec<u8> {
        (0..300_000_u32)
            .flat_map(|n| (n / 3).to_le_bytes())
            .collect()
    }

    fn unpacked(bytes: &[u8], capacity: usize) -> io::Result<Vec<u8>> {
        unpacked_but(bytes, capacity, Behind::Refused)
    }

    fn unpacked_but(bytes: &[u8], capacity: usize, behind: Behind) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        let mut gunzip = Gunzip::new(BufReader::with_capacity(capacity, bytes), behind);
        gunzip.read_to_end(&mut read).map(|_| read)
    }

    #[test]
    fn members_follow_each_other_and_headers_may_say_much() {
        let sample = sample();
        let file = [packed(&sample), packed(b""), packed(b"tail")].concat();
        let expected = [&sample[..], b"tail"].concat();
        for capacity in [1, 7, 4096, 1 << 20] {
            assert!(unpacked(&file, capacity).unwrap() == expected, "{capacity}");
        }
    }

    /// RFC 1952 section 2.3.1.1 and others by hand: what GNU gzip makes of an empty file.
    #[test]
    fn an_empty_file() {
        let file = [
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(unpacked(&file, 64).unwrap(), b"");
    }

    /// As gzip(1) and Docker unpack an archive that was padded.
    #[test]
    fn what_stands_behind_an_archive_is_nobodys() {
        let sample = sample();
        let whole = packed(&sample);
        for behind in [&[0; 700][..], b"garbage"] {
            let file = [&whole[..], behind].concat();
            for capacity in [1, 7, 4096] {
                let read = unpacked_but(&file, capacity, Behind::Ignored).unwrap();
                assert!(read == sample, "{capacity}");
                assert!(unpacked(&file, capacity).is_err());
            }
        }
        let mut changed = [&whole[..], &[0; 700]].concat();
        changed[whole.len() - 6] ^= 1;
        assert!(unpacked_but(&changed, 4096, Behind::Ignored).is_err());
    }

    #[test]
    fn what_is_broken_is_an_error() {
        let whole = packed(&sample());
        let mut changed = whole.clone();
        let at = changed.len() - 6;
        changed[at] ^= 1;
        let mut cases = vec![changed, [&whole[..], b"garbage that is no member"].concat()];
        // Cut anywhere: in the header, the body, the trailer.
        for end in [0, 1, 9, 12, 20, 100, whole.len() - 9, whole.len() - 1] {
            cases.push(whole[..end].to_vec());
        }
        for (at, case) in cases.iter().enumerate() {
            assert!(unpacked(case, 512).is_err(), "case {at}");
        }
    }
}
