//! The reader and the writer against `serde_json`, and the *bytes* extension against itself.

use proptest::prelude::*;

use super::{Malformed, Unit, Value, parse, write_string};

fn written(bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    let Ok(()) = write_string(&mut output, bytes);
    output
}

fn decoded(payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    let Value::String(text) = parse(payload)? else {
        return Err(Malformed("not a string"));
    };
    let mut bytes = Vec::new();
    for unit in text.units() {
        match unit {
            Unit::Char(char) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => bytes.push(byte),
        }
    }
    Ok(bytes)
}

/// Whether the two readers mean the same by a value; numbers are compared where both have them as integers.
fn same(ours: &Value<'_>, theirs: &serde_json::Value) -> bool {
    match (ours, theirs) {
        (Value::Null, serde_json::Value::Null) | (Value::Array, serde_json::Value::Array(_)) => true,
        (Value::Bool(ours), serde_json::Value::Bool(theirs)) => ours == theirs,
        (Value::Number(_), serde_json::Value::Number(theirs)) => {
            ours.as_integer() == theirs.as_i64() || theirs.is_f64()
        }
        (Value::String(ours), serde_json::Value::String(theirs)) => ours.is(theirs),
        (Value::Object(ours), serde_json::Value::Object(theirs)) => {
            // Of members with the same name serde_json keeps the last; this reader refuses to choose.
            theirs.iter().all(|(name, theirs)| match ours.member(name) {
                Ok(Some(ours)) => same(&ours, theirs),
                Ok(None) => false,
                Err(_) => ours.members().filter(|(key, _)| key.is(name)).count() > 1,
            }) && ours
                .members()
                .all(|(name, _)| theirs.keys().any(|key| name.is(key)))
        }
        _ => false,
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Text that is nearly JSON: pieces that a reader could get wrong.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "\\udc80", "\\udcff", "\\udd00",
        "\\u0000", "0", "-", "1", ".", "e", "E", "+", "null", "true", "false", "nul", " ", "\n", "\t", "\r",
        "\u{1}", "\u{feff}", "\"a\"", "\"a\":1", "é", "😀",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Whether serde_json refused because of its own limits, not of the grammar: the size of a number, its 128 levels, a
/// lone surrogate.
fn is_limit(error: &serde_json::Error) -> bool {
    let message = error.to_string();
    [
        "number out of range",
        "recursion limit",
        "surrogate",
        "unexpected end of hex escape",
    ]
    .iter()
    .any(|limit| message.contains(limit))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn text_is_written_so_that_serde_json_reads_it(text: String) {
        prop_assert_eq!(serde_json::from_slice::<String>(&written(text.as_bytes())).unwrap(), text);
    }

    #[test]
    fn bytes_come_back_as_they_were(bytes: Vec<u8>) {
        let written = written(&bytes);
        prop_assert!(core::str::from_utf8(&written).is_ok());
        prop_assert_eq!(decoded(&written).unwrap(), bytes);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_by_those_who_do_not_know_the_extension(bytes: Vec<u8>) {
        let read = serde_json::from_slice::<String>(&written(&bytes));
        prop_assert_eq!(read.ok(), String::from_utf8(bytes).ok());
    }

    #[test]
    fn what_serde_json_writes_is_read_the_same(value in any_json(), pretty: bool) {
        let payload = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        prop_assert!(same(&parse(&payload).unwrap(), &value));
    }

    #[test]
    fn nearly_json_is_accepted_exactly_when_serde_json_accepts_it(text in nearly_json()) {
        match (parse(text.as_bytes()), serde_json::from_str::<serde_json::Value>(&text)) {
            (Ok(ours), Ok(theirs)) => prop_assert!(same(&ours, &theirs), "{text}: read differently"),
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => prop_assert!(is_limit(&error), "accepted {text}: {error}"),
            (Err(malformed), Ok(_)) => prop_assert!(false, "refused {text}: {malformed:?}"),
        }
    }

    #[test]
    fn a_damaged_payload_is_read_like_serde_json_reads_it(value in any_json(), at: prop::sample::Index, byte: u8) {
        let mut payload = serde_json::to_vec(&value).unwrap();
        let at = at.index(payload.len());
        payload[at] = byte;
        match (parse(&payload), serde_json::from_slice::<serde_json::Value>(&payload)) {
            (Ok(ours), Ok(theirs)) => prop_assert!(same(&ours, &theirs)),
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => prop_assert!(is_limit(&error), "accepted {payload:?}: {error}"),
            (Err(malformed), Ok(_)) => prop_assert!(false, "refused {payload:?}: {malformed:?}"),
        }
    }

    #[test]
    fn garbage_is_refused_without_a_panic(payload: Vec<u8>) {
        let read = parse(&payload).is_ok();
        prop_assert!(!read || serde_json::from_slice::<serde_json::Value>(&payload).map_or_else(|error| is_limit(&error), |_| true));
    }
}

#[test]
fn every_invalid_byte_has_its_own_escape() {
    for byte in 0x80..=0xff {
        let escaped = format!("\"\\udc{byte:02x}\"");
        assert_eq!(written(&[byte]), escaped.as_bytes());
        assert_eq!(decoded(escaped.as_bytes()), Ok(vec![byte]));
    }
}

#[test]
fn every_escape_of_json_is_read() {
    let escaped = br#""\"\\\/\b\f\n\r\t\u0041\ud83d\uDE00""#;
    assert_eq!(decoded(escaped), Ok("\"\\/\u{8}\u{c}\n\r\tA😀".into()));
}

#[test]
fn an_encoded_surrogate_travels_as_three_bytes() {
    assert_eq!(written(b"\xed\xa0\x80"), br#""\udced\udca0\udc80""#);
}

#[test]
fn surrogates_other_than_those_of_the_extension_are_refused() {
    for text in [
        r#""\ud800""#,
        r#""\udbff""#,
        r#""\udc00""#,
        r#""\udc7f""#,
        r#""\udd00""#,
        r#""\udfff""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
    ] {
        assert!(parse(text.as_bytes()).is_err(), "accepted {text}");
    }
    assert_eq!(decoded(br#""\ud83d\ude00""#), Ok("😀".as_bytes().to_vec()));
}

#[test]
fn nesting_is_bounded_far_beyond_what_peers_send() {
    let nested = |levels: usize| format!("{}1{}", "[{\"a\":".repeat(levels / 2), "}]".repeat(levels / 2));
    assert!(parse(nested(500).as_bytes()).is_ok());
    assert!(parse(nested(1024).as_bytes()).is_ok());
    assert_eq!(
        parse(nested(1026).as_bytes()).unwrap_err(),
        Malformed("it is nested too deeply")
    );
    assert!(parse("[".repeat(1 << 20).as_bytes()).is_err());
}

#[test]
fn an_escape_at_the_end_of_the_payload_is_no_end_of_a_string() {
    for text in [
        "\"\\",
        "\"\\\"",
        "\"\\u",
        "\"\\u00",
        "\"\\u0041",
        "\"\\ud83d\\ude",
        "\"\\x\"",
        "\"\\u00é\"",
    ] {
        assert!(parse(text.as_bytes()).is_err(), "accepted {text}");
    }
}

#[test]
fn blocks_of_every_length_are_escaped_alike() {
    for length in 0..80 {
        for special in 0..length {
            let mut bytes = vec![b'a'; length];
            bytes[special] = b'"';
            assert_eq!(decoded(&written(&bytes)), Ok(bytes));
        }
    }
}
