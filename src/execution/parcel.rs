//! A job as bytes: packed by the host, which may allocate, and read in place by the keeper, which may not.
//!
//! First come words: how many words, list entries and bytes follow, then the words themselves. Lists of C strings are one after
//! the other behind them, each entry the place of its text plus 1, or 0 at the end of a list; the texts come last. The reader
//! turns entries into pointers, so that a list is what execve(2) takes.

use std::ffi::{CStr, CString, NulError, c_char};

use super::raw::Strings;

const WORD: usize = size_of::<u64>();
/// Words, list entries, bytes of texts.
const HEADER: usize = 3;

/// Packs a job.
#[derive(Debug, Default)]
pub(super) struct Writer {
    words: Vec<u64>,
    entries: Vec<u64>,
    texts: Vec<u8>,
}

impl Writer {
    pub(super) fn word(&mut self, word: u64) {
        self.words.push(word);
    }

    pub(super) fn number(&mut self, number: i32) {
        self.word(u64::from(number.cast_unsigned()));
    }

    /// # Errors
    /// When the text contains NUL.
    pub(super) fn text(&mut self, text: Vec<u8>) -> Result<(), NulError> {
        self.word(text.len() as u64);
        self.list([text])
    }

    /// # Errors
    /// When a text contains NUL.
    pub(super) fn list(&mut self, texts: impl IntoIterator<Item = Vec<u8>>) -> Result<(), NulError> {
        let before = self.entries.len();
        for text in texts {
            self.entries.push(self.texts.len() as u64 + 1);
            self.texts
                .extend_from_slice(CString::new(text)?.as_bytes_with_nul());
        }
        self.entries.push(0);
        self.word((self.entries.len() - before) as u64);
        Ok(())
    }

    /// All of it, as whole words.
    pub(super) fn finish(self) -> Vec<u8> {
        let sizes = [self.words.len(), self.entries.len(), self.texts.len()].map(|size| size as u64);
        let words = sizes.iter().chain(&self.words).chain(&self.entries);
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(&self.texts);
        bytes.resize(bytes.len().next_multiple_of(WORD), 0);
        bytes
    }
}

/// Reads a job where it is. Nothing here allocates or panics; what doesn't fit is `None`.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    words: &'a [u64],
    entries: &'a [*const c_char],
    /// Bytes of all texts.
    texts: usize,
}

impl<'a> Reader<'a> {
    /// Turns the list entries in `parcel` into pointers.
    pub(super) fn new(parcel: &'a mut [u64]) -> Option<Self> {
        let bytes = parcel.len().checked_mul(WORD)?;
        let (header, rest) = parcel.split_at_mut_checked(HEADER)?;
        let [words, entries, texts] = header else {
            return None;
        };
        let [words, entries, texts] = [*words, *entries, *texts].map(|size| usize::try_from(size).ok());
        let (words, entries, texts) = (words?, entries?, texts?);
        let before_texts = HEADER
            .checked_add(words)?
            .checked_add(entries)?
            .checked_mul(WORD)?;
        if before_texts.checked_add(texts)? > bytes {
            return None;
        }
        let (words, rest) = rest.split_at_mut_checked(words)?;
        let (entries, rest) = rest.split_at_mut_checked(entries)?;
        let first_text = rest.as_ptr().cast::<c_char>();
        for entry in &mut *entries {
            if *entry != 0 {
                let place = usize::try_from(*entry).ok()?.wrapping_sub(1);
                if place >= texts {
                    return None;
                }
                *entry = first_text.wrapping_add(place) as u64;
            }
        }
        Some(Self {
            words,
            // SAFETY: on 64 bits a word and a pointer are alike; each entry is null, or points to a text of `parcel`.
            entries: unsafe { std::slice::from_raw_parts(entries.as_ptr().cast(), entries.len()) },
            texts,
        })
    }

    pub(super) fn word(&mut self) -> Option<u64> {
        let (&word, rest) = self.words.split_first()?;
        self.words = rest;
        Some(word)
    }

    pub(super) fn number(&mut self) -> Option<i32> {
        u32::try_from(self.word()?).ok().map(u32::cast_signed)
    }

    /// So many words.
    pub(super) fn words(&mut self, count: usize) -> Option<&'a [u64]> {
        let (words, rest) = self.words.split_at_checked(count)?;
        self.words = rest;
        Some(words)
    }

    pub(super) fn text(&mut self) -> Option<&'a CStr> {
        let length = usize::try_from(self.word()?).ok()?;
        let first = *self.pointers()?.first()?;
        if first.is_null() || length >= self.texts {
            return None;
        }
        // SAFETY: the writer put so many bytes and a NUL there, in memory that lives as long as `'a`.
        let bytes = unsafe { std::slice::from_raw_parts(first.cast::<u8>(), length + 1) };
        // SAFETY: the writer has made sure that it is a C string; looking again would take the length of all texts.
        Some(unsafe { CStr::from_bytes_with_nul_unchecked(bytes) })
    }

    pub(super) fn list(&mut self) -> Option<Strings<'a>> {
        let pointers = self.pointers()?;
        pointers.last().filter(|last| last.is_null())?;
        // SAFETY: the last one is null, all others point to C strings that the writer has made.
        Some(unsafe { Strings::from_pointers(pointers) })
    }

    fn pointers(&mut self) -> Option<&'a [*const c_char]> {
        let count = usize::try_from(self.word()?).ok()?;
        let (pointers, rest) = self.entries.split_at_checked(count)?;
        self.entries = rest;
        Some(pointers)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The bytes as words, as a mapping has them.
    pub(in crate::execution) fn mapped(bytes: Vec<u8>) -> Vec<u64> {
        let words = bytes.chunks_exact(WORD);
        words
            .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
            .collect()
    }

    pub(in crate::execution) fn texts(strings: Strings<'_>) -> Vec<String> {
        strings
            .pointers()
            // SAFETY: the parcel is still there.
            .map(|text| unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn what_is_packed_is_read_in_order() {
        let mut writer = Writer::default();
        writer.number(-1);
        writer.text(b"path".to_vec()).unwrap();
        writer.list([b"a".to_vec(), b"".to_vec()]).unwrap();
        writer.word(u64::MAX);
        writer.list([]).unwrap();
        let mut parcel = mapped(writer.finish());
        let mut reader = Reader::new(&mut parcel).unwrap();
        assert_eq!(reader.number(), Some(-1));
        assert_eq!(reader.text(), Some(c"path"));
        assert_eq!(texts(reader.list().unwrap()), ["a", ""]);
        assert_eq!(reader.words(1), Some(&[u64::MAX][..]));
        assert_eq!(texts(reader.list().unwrap()), [""; 0]);
        assert_eq!(reader.word(), None);
    }

    #[test]
    fn nul_is_refused() {
        assert!(Writer::default().text(b"a\0b".to_vec()).is_err());
        assert!(Writer::default().list([b"a".to_vec(), b"\0".to_vec()]).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for words in [
            &mut [][..],
            &mut [0, 0],
            &mut [1, 0, 0],
            &mut [0, 0, 1],
            &mut [u64::MAX, 1, 0],
            &mut [0, 1, 0, 1],
        ] {
            assert!(Reader::new(words).is_none());
        }
    }
}
