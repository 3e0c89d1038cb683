//! Crude removal of mark-up: enough for a classifier, not for a browser.

/// Elements whose content nobody reads.
const UNREAD: [&str; 3] = ["script", "style", "title"];

/// The text between the tags, with a blank in place of each tag, nothing in place of a comment, and common entities resolved.
pub fn strip(html: &str) -> String {
    // ASCII lower case keeps every byte where it was.
    let lower = html.to_ascii_lowercase();
    let mut out = String::with_capacity(html.len());
    let mut at = 0;
    while let Some(open) = html[at..].find('<').map(|i| at + i) {
        out += &html[at..open];
        at = match tag_end(&lower, open) {
            Some(end) => {
                // Spam hides comments inside words.
                out.extend((!html[open..].starts_with("<!--")).then_some(' '));
                end
            }
            None => {
                out.push('<');
                open + 1
            }
        };
    }
    entities(&(out + &html[at..]))
}

/// Where the tag, comment or unread element that begins at `open` ends; none if it is only a less-than sign.
fn tag_end(lower: &str, open: usize) -> Option<usize> {
    let tag = &lower[open + 1..];
    let after = |mark: &str| tag.find(mark).map(|i| open + 1 + i + mark.len());
    if tag.starts_with("!--") {
        return after("-->").or(after(">"));
    }
    if !tag.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c)) {
        return None;
    }
    let close = after(">")?;
    let unread = UNREAD.iter().find(|name| {
        tag.strip_prefix(**name)
            .is_some_and(|rest| rest.starts_with(['>', ' ', '\n', '\r']))
    });
    let skipped = unread
        .and_then(|name| after(&format!("</{name}")))
        .and_then(|end| lower[end..].find('>').map(|i| end + i + 1));
    Some(skipped.unwrap_or(close))
}

fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        let (before, from) = rest.split_at(start);
        out += before;
        let name = from[1..].split(';').next().unwrap_or_default();
        match character(name).filter(|_| from[1..].len() > name.len()) {
            Some(character) => {
                out.push(character);
                rest = &from[name.len() + 2..];
            }
            None => {
                out.push('&');
                rest = &from[1..];
            }
        }
    }
    out + rest
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "nbsp" => Some(' '),
        "copy" => Some('\u{a9}'),
        _ => entity
            .strip_prefix('#')?
            .parse()
            .ok()
            .and_then(char::from_u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_elements_go_with_their_content() {
        assert_eq!(
            strip("a<SCRIPT type=x>if (1<2) {}</Script >b<styled>c d<!-- <p> -->e"),
            "a b c de"
        );
    }

    #[test]
    fn less_than_signs_and_ampersands_of_plain_text_stay() {
        assert_eq!(
            strip("1 < 2 && a &lt; b & c &unknown; <3"),
            "1 < 2 && a < b & c &unknown; <3"
        );
    }

    #[test]
    fn a_tag_that_never_ends_does_not_swallow_the_text() {
        assert_eq!(
            strip("one<br>two &#233; <b unclosed"),
            "one two \u{e9} <b unclosed"
        );
    }
}
