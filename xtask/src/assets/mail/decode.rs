//! The transfer encodings and character sets of e-mail, read forgivingly: most of the corpus bends the rules.

/// UTF-8, or else Latin-1 with the quotes and dashes that Windows puts where Latin-1 has control characters.
pub fn latin_or_utf8(bytes: &[u8]) -> String {
    let windows = |&byte: &u8| match byte {
        0x91 | 0x92 => '\'',
        0x93 | 0x94 => '"',
        0x96 | 0x97 => '-',
        other => char::from(other),
    };
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(windows).collect(), str::to_string)
}

/// `=3D` is the byte 0x3D, and `=` at the end of a line joins it with the next one.
pub fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'=', [b'\r', b'\n', tail @ ..] | [b'\n', tail @ ..]) => rest = tail,
            (b'=', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            _ => out.push(byte),
        }
    }
    out
}

fn hex(digit: u8) -> u8 {
    char::from(digit)
        .to_digit(16)
        .map_or(0, |value| value as u8)
}

/// Base64 up to its padding; characters outside the alphabet are passed over.
pub fn base64(text: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.iter().take_while(|&&byte| byte != b'=') {
        let Some(value) = ALPHABET.iter().position(|letter| letter == byte) else {
            continue;
        };
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

/// Decodes words such as `=?charset?q?caf=E9?=`; the blank between two of them belongs to neither.
pub fn decoded_words(header: &str) -> String {
    let mut out = String::new();
    let mut rest = header;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, from) = rest.split_at(start);
        let Some((word, tail)) = decoded_word(from) else {
            break;
        };
        if !(after_word && before.trim().is_empty()) {
            out += before;
        }
        out += &word;
        (rest, after_word) = (tail, true);
    }
    out + rest
}

/// Decodes the word that `text` begins with; returns it and what follows.
fn decoded_word(text: &str) -> Option<(String, &str)> {
    let mut fields = text.strip_prefix("=?")?.splitn(3, '?');
    let (_charset, encoding, rest) = (fields.next()?, fields.next()?, fields.next()?);
    let (content, tail) = rest.split_once("?=")?;
    let bytes = match encoding {
        "q" | "Q" => quoted_printable(content.replace('_', " ").as_bytes()),
        "b" | "B" => base64(content.as_bytes()),
        _ => return None,
    };
    Some((latin_or_utf8(&bytes), tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_printable_joins_lines_and_leaves_stray_equal_signs() {
        assert_eq!(quoted_printable(b"a=3Db=\nc =\r\nd =zz ="), b"a=bc d =zz =");
    }

    #[test]
    fn base64_reads_over_line_breaks_and_stops_at_the_padding() {
        assert_eq!(base64(b"bGlnaHQg\r\nd29y\naw==trailer"), b"light work");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_latin_with_windows_quotes() {
        assert_eq!(latin_or_utf8(b"don\x92t caf\xe9"), "don't caf\u{e9}");
        assert_eq!(latin_or_utf8("caf\u{e9}".as_bytes()), "caf\u{e9}");
    }

    #[test]
    fn what_only_looks_like_an_encoded_word_stays() {
        assert_eq!(decoded_words("what =?is? this"), "what =?is? this");
    }
}
