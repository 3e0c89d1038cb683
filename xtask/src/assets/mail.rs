//! What a person reads of an e-mail: its subject and its text, without headers, encodings and mark-up.
//!
//! Headers would give the class away (relays, mailers, filters), so none but the subject is kept.

mod decode;
mod html;

use decode::{base64, decoded_words, latin_or_utf8, quoted_printable};

/// Parts within parts that are looked into; deeper ones are broken or hostile.
const DEEPEST: usize = 8;

/// Subject, line break, text; runs of white space are one blank.
pub fn text(mail: &[u8]) -> String {
    let part = Part::new(mail);
    let subject = collapse(&decoded_words(&part.header("subject").unwrap_or_default()));
    let body = collapse(&part.readable(DEEPEST).unwrap_or_default().0);
    [subject, body]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

/// At most the first `longest` characters, cut between words where there is a gap.
pub fn truncate(text: &str, longest: usize) -> &str {
    let Some((end, next)) = text.char_indices().nth(longest) else {
        return text;
    };
    let head = &text[..end];
    if next.is_whitespace() {
        return head.trim_end();
    }
    head.rfind(char::is_whitespace)
        .map_or(head, |gap| head[..gap].trim_end())
}

/// A mail, or a part of one: headers, an empty line, content.
struct Part<'a> {
    headers: Vec<(String, String)>,
    body: &'a [u8],
}

impl<'a> Part<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest
                .iter()
                .position(|&b| b == b'\n')
                .map_or(rest.len(), |i| i + 1);
            let (line, after) = rest.split_at(end);
            rest = after;
            let line = latin_or_utf8(line.trim_ascii_end());
            if line.is_empty() {
                break;
            }
            if line.starts_with([' ', '\t']) {
                // A header goes on in lines that begin with a blank.
                headers
                    .iter_mut()
                    .last()
                    .into_iter()
                    .for_each(|(_, value)| *value += &line);
            } else if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
            }
        }
        Self {
            headers,
            body: rest,
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }

    /// The text for a reader, and whether it was written as plain text; none in pictures and programs.
    fn readable(&self, depth: usize) -> Option<(String, bool)> {
        let content = self
            .header("content-type")
            .unwrap_or_else(|| "text/plain".into());
        let kind = content
            .split([';', ' '])
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if let (true, Some(boundary)) = (
            kind.starts_with("multipart/"),
            parameter(&content, "boundary"),
        ) {
            return self.best_of(&boundary, depth);
        }
        if !kind.starts_with("text/") && kind.contains('/') {
            return None;
        }
        let bytes = match self
            .header("content-transfer-encoding")
            .unwrap_or_default()
            .to_ascii_lowercase()
            .trim()
        {
            "base64" => base64(self.body),
            "quoted-printable" => quoted_printable(self.body),
            _ => self.body.to_vec(),
        };
        let text = latin_or_utf8(&bytes);
        // Much spam says plain and sends mark-up.
        let marked_up = kind == "text/html" || text.contains("</");
        Some((
            if marked_up { html::strip(&text) } else { text },
            kind != "text/html",
        ))
    }

    /// Of several parts, the first plain one, else the first that has a text.
    fn best_of(&self, boundary: &str, depth: usize) -> Option<(String, bool)> {
        let depth = depth.checked_sub(1)?;
        let texts = split(self.body, boundary)
            .into_iter()
            .filter_map(|part| Part::new(part).readable(depth));
        let texts: Vec<_> = texts.filter(|(text, _)| !text.trim().is_empty()).collect();
        let plain = texts.iter().position(|(_, plain)| *plain);
        texts.into_iter().nth(plain.unwrap_or(0))
    }
}

/// The value of `name=value` or `name="value"` in a header.
fn parameter(header: &str, name: &str) -> Option<String> {
    let at = header.to_ascii_lowercase().find(&format!("{name}="))?;
    let value = &header[at + name.len() + 1..];
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split([';', ' ', '\t']).next(),
    };
    value.filter(|value| !value.is_empty()).map(str::to_string)
}

/// What lies between the lines that begin with `--boundary`.
fn split<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let mark = format!("--{boundary}").into_bytes();
    let mut parts = Vec::new();
    let (mut at, mut start) = (0, None);
    for line in body.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(&mark) {
            parts.extend(start.map(|start| &body[start..at]));
            start = Some(at + line.len());
        }
        at += line.len();
    }
    // Many mails lack the closing line; what follows it is not a part.
    parts.extend(start.map(|start| &body[start..]));
    parts
}

/// One blank for each run of white space and control characters.
fn collapse(text: &str) -> String {
    let gap = |c: char| c.is_whitespace() || c.is_control();
    text.split(gap)
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_subject_and_the_text_are_left() {
        let mail = b"From x@y Thu Aug 22\nReceived: from relay\n\tby host\nSubject: Re: the\n  fair\nX-Mailer: m\n\nDear  all,\n\n> yes & no\n";
        assert_eq!(text(mail), "Re: the fair\nDear all, > yes & no");
    }

    #[test]
    fn html_loses_its_tags_and_its_encoding() {
        let mail = b"Subject: Hi\r\nContent-Type: TEXT/HTML; charset=x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                     <html><style>p {}</style><!-- a > b --><p class=3D\"x\">Free&nbsp;mo=\r\nney &amp; more</p>\r\n";
        assert_eq!(text(mail), "Hi\nFree money & more");
    }

    #[test]
    fn of_several_parts_the_plain_one_is_read_and_pictures_are_not() {
        let part =
            |kind: &str, content: &str| format!("--b=1\nContent-Type: {kind}\n\n{content}\n");
        let head = "Subject: S\nContent-Type: multipart/mixed;\n boundary=\"b=1\"\n\nPreamble\n";
        let pictures = [
            head.into(),
            part("image/gif", "R0lG"),
            part("text/html", "<b>bold</b>"),
        ]
        .concat();
        assert_eq!(text(pictures.as_bytes()), "S\nbold");
        let both = [pictures, part("text/plain", "plain"), "--b=1--\n".into()].concat();
        assert_eq!(text(both.as_bytes()), "S\nplain");
    }

    #[test]
    fn parts_nested_without_end_give_no_text() {
        let head = "Content-Type: multipart/mixed; boundary=a\n\n--a\n";
        assert_eq!(text(head.repeat(50).as_bytes()), "");
    }

    #[test]
    fn a_subject_with_encoded_words_is_decoded() {
        let mail = "Subject: =?iso-8859-1?Q?Caf=E9_au?= =?utf-8?b?IGxhaXQ=?= now\n\n";
        assert_eq!(text(mail.as_bytes()), "Caf\u{e9} au lait now");
    }

    #[test]
    fn long_texts_are_cut_between_words() {
        assert_eq!(truncate("one two three", 9), "one two");
        assert_eq!(truncate("one two three", 7), "one two");
        assert_eq!(
            truncate("\u{e9}\u{e9}\u{e9}\u{e9}", 3),
            "\u{e9}\u{e9}\u{e9}"
        );
        assert_eq!(truncate("short", 9), "short");
    }
}
