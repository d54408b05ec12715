//! Foreign text, made harmless: what an implementation says must not move a cursor, hide behind the direction of text,
//! or give a hosted CI an order.

/// `text` with control characters, directional formatting and orders to a hosted CI escaped. Lines stay lines.
///
/// What is harmless stays as it is, so that applying this twice changes nothing more.
pub fn printable(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(line).collect();
    lines.join("\n")
}

fn line(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    // Runners of Actions obey `::order::` at the beginning of a line, which blanks may precede, and `##[order]` anywhere.
    let rest = line.trim_start();
    let (blanks, rest) = match rest.strip_prefix("::") {
        Some(order) => (&line[..line.len() - rest.len()], Some(order)),
        None => (line, None),
    };
    escape(&mut shown, blanks);
    if let Some(order) = rest {
        shown.push_str(r"\u{3a}:");
        escape(&mut shown, order);
    }
    shown.replace("##[", r"\u{23}#[")
}

fn escape(shown: &mut String, text: &str) {
    for character in text.chars() {
        if character != '\t' && (character.is_control() || is_directional(character)) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
}

/// Invisible characters that change the order of what is seen around them, and separators that some take for line ends.
fn is_directional(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_do_harm_is_escaped_and_nothing_else() {
        for (foreign, shown) in [
            (
                "plain text, \u{e9}\u{4e2d}\t\"quoted\"",
                "plain text, \u{e9}\u{4e2d}\t\"quoted\"",
            ),
            ("\u{1b}[2Jgone", r"\u{1b}[2Jgone"),
            ("passed\rfailed", r"passed\rfailed"),
            ("a\u{202e}b\u{2066}c\u{200f}", r"a\u{202e}b\u{2066}c\u{200f}"),
            ("\u{85}\u{9b}31m\u{7f}", r"\u{85}\u{9b}31m\u{7f}"),
            (
                "one\n::error::two\n  ::set-output::three",
                "one\n\\u{3a}:error::two\n  \\u{3a}:set-output::three",
            ),
            ("std::process", "std::process"),
            ("a ##[error]b", r"a \u{23}#[error]b"),
        ] {
            assert_eq!(printable(foreign), shown);
            assert_eq!(printable(shown), shown, "twice");
        }
    }
}
