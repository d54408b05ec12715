//! Where bytes are written to: a frame on the stream, a message on standard error, or a mere count.

use core::convert::Infallible;

/// A sink of bytes.
pub trait Output {
    /// Why a sink refuses bytes.
    type Error;

    /// Takes all of `bytes`, in order.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Counts what would be written, so that a frame's length is known before its first byte is written.
#[derive(Debug, Default)]
pub struct Count(pub usize);

impl Output for Count {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len();
        Ok(())
    }
}

/// The buffer is too small for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Writes to memory of a fixed size.
pub struct Buffer<'a> {
    bytes: &'a mut [u8],
    filled: usize,
}

impl<'a> Buffer<'a> {
    /// A buffer whose first `skipped` bytes are left as they are. `bytes` has at least as many.
    pub fn new(bytes: &'a mut [u8], skipped: usize) -> Self {
        Self {
            bytes,
            filled: skipped,
        }
    }

    /// What has been skipped and written.
    pub fn filled(self) -> &'a mut [u8] {
        &mut self.bytes[..self.filled]
    }
}

impl Output for Buffer<'_> {
    type Error = Full;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let room = self
            .bytes
            .get_mut(self.filled..self.filled + bytes.len())
            .ok_or(Full)?;
        room.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
impl Output for Vec<u8> {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The digits of a number, without an allocator.
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// `number` in decimal, with a sign where it is negative.
    pub fn new(number: i64) -> Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            start -= 1;
            digits[start] = b'-';
        }
        Self { digits, start }
    }

    /// The ASCII digits.
    pub fn bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_what_fits_and_nothing_of_what_does_not() {
        let mut memory = [b'-'; 6];
        let mut buffer = Buffer::new(&mut memory, 2);
        assert_eq!(buffer.put(b"abc"), Ok(()));
        assert_eq!(buffer.put(b"de"), Err(Full));
        assert_eq!(buffer.put(b"f"), Ok(()));
        assert_eq!(buffer.put(b""), Ok(()));
        assert_eq!(buffer.filled(), b"--abcf");
    }

    #[test]
    fn decimals_are_written_like_the_standard_library_writes_them() {
        for number in [0, 7, 10, 126, -1, i64::MAX, i64::MIN] {
            assert_eq!(Decimal::new(number).bytes(), number.to_string().as_bytes());
        }
    }
}
