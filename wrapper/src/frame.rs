//! The frame around a message: its payload's length as unsigned 32-bit little-endian, then the payload (`wire.frame`).

use crate::output::{Buffer, Full};

/// Bytes of the length that begins a frame.
pub const HEADER: usize = 4;

/// The largest payload that is accepted, in bytes (`wire.limit`): argv and environment of the largest request that the
/// kernel lets through, escaped six-fold, are of this order.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// The header of a payload of `length` bytes, unless 32 bits can't hold the length.
pub fn header(length: usize) -> Option<[u8; HEADER]> {
    u32::try_from(length).ok().map(u32::to_le_bytes)
}

/// Makes a frame in `buffer`, with a payload that `write` writes.
///
/// # Errors
/// [`Full`] when the buffer is smaller than the frame.
pub fn compose<'a>(
    buffer: &'a mut [u8],
    write: impl FnOnce(&mut Buffer<'a>) -> Result<(), Full>,
) -> Result<&'a [u8], Full> {
    let mut output = Buffer::new(buffer, HEADER);
    write(&mut output)?;
    let frame = output.filled();
    let header = header(frame.len() - HEADER).ok_or(Full)?;
    frame[..HEADER].copy_from_slice(&header);
    Ok(frame)
}

/// The payload's length that a frame announces.
pub fn payload_length(header: [u8; HEADER]) -> usize {
    // 32 bits always fit: this program isn't built for 16-bit machines.
    u32::from_le_bytes(header) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    #[test]
    fn a_frame_is_composed_where_it_fits() {
        let mut buffer = [0; 8];
        assert_eq!(
            compose(&mut buffer, |output| output.put(b"{}")),
            Ok(&b"\x02\0\0\0{}"[..])
        );
        assert_eq!(compose(&mut buffer, |output| output.put(b"[1,2]")), Err(Full));
    }

    #[test]
    fn the_length_is_little_endian() {
        assert_eq!(header(0x0102_0304), Some([4, 3, 2, 1]));
        assert_eq!(payload_length([4, 3, 2, 1]), 0x0102_0304);
    }

    #[test]
    fn a_length_over_32_bits_has_no_header() {
        assert_eq!(header(u32::MAX as usize + 1), None);
    }
}
