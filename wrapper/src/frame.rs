//! The frame around a message: its payload's length as unsigned 32-bit little-endian, then the payload (`wire.frame`).

/// Bytes of the length that begins a frame.
pub const HEADER: usize = 4;

/// The largest payload that is accepted, in bytes (`wire.limit`): argv and environment of the largest request that the
/// kernel lets through, escaped six-fold, are of this order.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// The header of a payload of `length` bytes, unless 32 bits can't hold the length.
pub fn header(length: usize) -> Option<[u8; HEADER]> {
    u32::try_from(length).ok().map(u32::to_le_bytes)
}

/// The payload's length that a frame announces.
pub fn payload_length(header: [u8; HEADER]) -> usize {
    // 32 bits always fit: this program isn't built for 16-bit machines.
    u32::from_le_bytes(header) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

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
