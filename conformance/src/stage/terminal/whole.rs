//! All that reading a terminal gave, and whether it is what was written.

use std::fmt;

use crate::case::expect;
use crate::peer::harness::Reading;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// All that reading a terminal gave.
#[derive(Debug, Default)]
pub struct Whole {
    /// The output.
    pub data: Vec<u8>,
    /// Where bytes are missing, and how many.
    pub gaps: Vec<(usize, u64)>,
    /// The end of its process.
    pub ended: Option<Ended>,
}

impl Whole {
    pub(super) fn add(&mut self, reading: Reading) {
        if reading.omitted > 0 {
            self.gaps.push((self.data.len() + reading.head, reading.omitted));
        }
        self.data.extend(reading.data);
    }

    /// Demands that this is what was written, and all of it.
    pub fn expect_all_of(&self, written: &[u8]) -> Verdict {
        expect::that(
            self.gaps.is_empty(),
            "no output is left out",
            format_args!("(place, number) of bytes left out: {:?}", self.gaps),
        )?;
        expect::that(
            self.data == written,
            format_args!("the {} bytes that were written, in order", written.len()),
            difference(written, &self.data),
        )
    }

    /// Demands that what was read and what is told as left out are together what was written.
    pub fn expect_parts_of(&self, written: &[u8]) -> Verdict {
        let mut at_written = 0_usize;
        let mut at_read = 0_usize;
        for (place, omitted) in self.gaps.iter().copied().chain([(self.data.len(), 0)]) {
            let part = &self.data[at_read..place];
            let expected = written
                .get(at_written..at_written + part.len())
                .unwrap_or_default();
            expect::that(
                part == expected,
                format_args!(
                    "bytes {at_written} to {} of what was written",
                    at_written + part.len()
                ),
                difference(expected, part),
            )?;
            at_read = place;
            at_written += part.len() + usize::try_from(omitted).unwrap_or(usize::MAX >> 1);
        }
        expect::equal("bytes read and left out together", written.len(), at_written)
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let end = &self.data[self.data.len().saturating_sub(SHOWN)..];
        write!(
            formatter,
            "{} bytes were read, at last {:?}",
            self.data.len(),
            String::from_utf8_lossy(end)
        )
    }
}

/// Where two outputs begin to differ.
fn difference(expected: &[u8], observed: &[u8]) -> String {
    let place = expected
        .iter()
        .zip(observed)
        .position(|(one, other)| one != other);
    let place = place.unwrap_or(expected.len().min(observed.len()));
    let around = |bytes: &[u8]| {
        let part = &bytes[place.min(bytes.len())..(place + 40).min(bytes.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    format!(
        "{} bytes, which differ from byte {place} on: {:?} instead of {:?}",
        observed.len(),
        around(observed),
        around(expected)
    )
}

/// So many bytes, of which each piece tells its place, without newlines.
pub fn numbered(length: usize) -> Vec<u8> {
    const PIECE: usize = 8;
    let mut bytes: Vec<u8> = (0..length.div_ceil(PIECE))
        .flat_map(|number| format!("{number:07};").into_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}
