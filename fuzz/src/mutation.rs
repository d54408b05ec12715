//! Makes new inputs of old ones.

use proptest::prelude::RngExt;
use proptest::test_runner::TestRng;

/// No input becomes longer.
const LONGEST: usize = 64 * 1024;

/// What is worth trying in any format: the ends of ranges, bytes with a meaning, invalid UTF-8.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x80",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xed\xb2\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r",
    b"\x1b",
    b"-",
    b"0",
    b"-1",
    b"1e999",
    b"0.0",
    b"255",
    b"256",
    b"2147483647",
    b"2147483648",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"#",
];

/// An input made from one of the corpus by up to eight changes.
pub(crate) fn mutated(random: &mut TestRng, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut input = one_of(random, corpus).clone();
    let most = 1_u32 << random.random_range(0..4_u32);
    for _ in 0..random.random_range(1..=most) {
        change(random, &mut input, corpus, words);
        input.truncate(LONGEST);
    }
    input
}

fn one_of<'a, T>(random: &mut TestRng, items: &'a [T]) -> &'a T {
    &items[random.random_range(0..items.len())]
}

/// Some part of the input, more often a short one.
fn part(random: &mut TestRng, length: usize) -> std::ops::Range<usize> {
    if length == 0 {
        return 0..0;
    }
    let start = random.random_range(0..length);
    let most = if random.random_range(0..4_u32) == 0 {
        length - start
    } else {
        (length - start).min(16)
    };
    start..start + random.random_range(0..=most)
}

fn change(random: &mut TestRng, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]]) {
    let length = input.len();
    let at = random.random_range(0..=length);
    match random.random_range(0..12_u32) {
        0 if length > 0 => input[at % length] ^= 1 << random.random_range(0..8_u32),
        1 if length > 0 => input[at % length] = random.random_range(0..=255_u32) as u8,
        2 => drop(input.drain(part(random, length))),
        3 => input.truncate(at),
        4 => {
            let copy = input[part(random, length)].to_vec();
            insert(input, at, &copy);
        }
        5 => {
            // Nesting, long lists and long strings.
            let copy = input[part(random, length)].to_vec();
            let most = (LONGEST / 4).checked_div(copy.len()).unwrap_or(0).min(4000);
            insert(input, at, &copy.repeat(random.random_range(0..=most)));
        }
        6 => {
            let other = one_of(random, corpus);
            let piece = &other[part(random, other.len())];
            insert(input, at, piece);
        }
        7 => {
            let other = one_of(random, corpus);
            input.truncate(at);
            input.extend_from_slice(&other[random.random_range(0..=other.len())..]);
        }
        8 => {
            let bytes: Vec<u8> = (0..random.random_range(1..20_u32))
                .map(|_| random.random_range(0..=255_u32) as u8)
                .collect();
            insert(input, at, &bytes);
        }
        9 => {
            let (word, gone) = (*one_of(random, WORDS), part(random, length));
            drop(input.splice(gone, word.iter().copied()));
        }
        10 => {
            let word = *one_of(random, WORDS);
            insert(input, at, word);
        }
        _ if !words.is_empty() => {
            let word = *one_of(random, words);
            let gone = if random.random_range(0..2_u32) == 0 {
                at..at
            } else {
                part(random, length)
            };
            drop(input.splice(gone, word.iter().copied()));
        }
        _ => {}
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    drop(input.splice(at..at, bytes.iter().copied()));
}
