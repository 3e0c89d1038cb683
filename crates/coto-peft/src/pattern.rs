use regex::Regex;

use crate::Error;

/// Constructs that Python's `re` and the `regex` crate both accept but read differently (set operations in classes).
const AMBIGUOUS: [&str; 4] = ["[[", "&&", "--", "~~"];

/// Compiles `pattern`, set into `frame` in the place of `{}`, to match from the start as Python's `re.match` does.
pub(crate) fn compile(field: &'static str, pattern: &str, frame: &str) -> Result<Regex, Error> {
    build(
        field,
        pattern,
        &format!(r"\A(?:{})", frame.replace("{}", pattern)),
    )
}

/// Compiles a pattern that must match a whole path, as Python's `re.fullmatch`.
pub(crate) fn compile_full(field: &'static str, pattern: &str) -> Result<Regex, Error> {
    build(field, pattern, pattern)?; // alone first, lest a stray `)` close the group around it
    build(field, pattern, &format!(r"\A(?:{pattern})\z"))
}

fn build(field: &'static str, pattern: &str, text: &str) -> Result<Regex, Error> {
    let fail = |reason: String| Error::Regex {
        field,
        pattern: pattern.to_owned(),
        reason,
    };
    if let Some(found) = AMBIGUOUS.iter().find(|&&a| pattern.contains(a)) {
        return Err(fail(format!(
            "`{found}` means one thing to Python and another here"
        )));
    }
    Regex::new(text).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().last().unwrap_or_default();
        fail(line.trim_start_matches("error: ").to_owned())
    })
}

/// The value of the first pattern that matches `path` or an ending of it after a dot (PEFT's `get_pattern_key`).
///
/// # Errors
/// [`Error::Regex`] for a pattern that cannot be used, with `field` as the place where it stands.
pub fn first_match<'a, T>(
    field: &'static str,
    patterns: &'a [(String, T)],
    path: &str,
) -> Result<Option<&'a T>, Error> {
    for (pattern, value) in patterns {
        if plain_match(pattern, path).map_or_else(|| regex_match(field, pattern, path), Ok)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn regex_match(field: &'static str, pattern: &str, path: &str) -> Result<bool, Error> {
    Ok(compile(field, pattern, r"(.*\.)?({})$")?.is_match(path))
}

/// The same answer without compiling, for patterns that are plain module names: a pruned model has one for every module.
fn plain_match(pattern: &str, path: &str) -> Option<bool> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.');
    if !pattern.bytes().all(plain) || !path.bytes().all(plain) {
        return None;
    }
    let Some(start) = path.len().checked_sub(pattern.len()) else {
        return Some(false);
    };
    let (head, tail) = path.split_at(start);
    let same = pattern
        .bytes()
        .zip(tail.bytes())
        .all(|(p, c)| p == b'.' || p == c);
    Some(same && (head.is_empty() || head.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_pattern_is_the_one_peft_finds() {
        let goldens: serde_json::Value =
            serde_json::from_str(include_str!("../goldens/targets.json")).unwrap();
        for case in goldens["patterns"].as_array().unwrap() {
            let names = case["patterns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p.as_str().unwrap().to_owned());
            let patterns: Vec<(String, usize)> = names.zip(0..).collect();
            let found =
                first_match("rank_pattern", &patterns, case["path"].as_str().unwrap()).unwrap();
            assert_eq!(found.map(|&i| i as u64), case["first"].as_u64(), "{case}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_agrees_with_the_regex(pattern in "[ab.]{0,4}", path in "[ab]{0,2}(\\.[ab]{0,3}){0,3}") {
            prop_assert_eq!(plain_match(&pattern, &path).unwrap(), regex_match("rank_pattern", &pattern, &path).unwrap());
        }
    }

    #[test]
    fn what_the_engine_cannot_do_is_named() {
        for (pattern, says) in [
            ("(?!a)b", "look-around"),
            (r"(a)\1", "backreferences"),
            ("(a", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("[a&&b]", "`&&`"),
        ] {
            let error = compile_full("target_modules", pattern)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("target_modules") && error.contains(pattern) && error.contains(says),
                "{error}"
            );
        }
    }
}
