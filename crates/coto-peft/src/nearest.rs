/// The up to three of `names` nearest to `wanted`, best first; names that share next to nothing are left out.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<_> = names
        .into_iter()
        .map(|name| {
            (
                strsim::normalized_damerau_levenshtein(&wanted, &name.to_lowercase()),
                name,
            )
        })
        .filter(|(score, _)| *score >= 0.3)
        .collect();
    scored.sort_by(|(a, left), (b, right)| b.total_cmp(a).then(left.cmp(right)));
    scored.dedup_by(|(_, a), (_, b)| a == b);
    scored
        .into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Names that an error's text suggests, to be put behind it: "" or " (nearest: `a`, `b`)".
pub fn hint(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!(" (nearest: `{}`)", names.join("`, `")),
    }
}

/// The names of `paths` nearest to a target entry: endings with as many segments as the entry has.
///
/// When none is near, as for a regular expression, the first endings stand in: they show what there is.
pub(crate) fn nearest_modules<'a>(
    entry: &str,
    paths: impl Iterator<Item = &'a str> + Clone,
) -> Vec<String> {
    let segments = entry.matches('.').count() + 1;
    let found = nearest(entry, paths.clone().map(|path| ending(path, segments)));
    if !found.is_empty() {
        return found;
    }
    let mut shown: Vec<String> = Vec::new();
    for name in paths.map(|path| ending(path, 1)) {
        if shown.len() < 3 && !shown.iter().any(|s| s == name) {
            shown.push(name.to_owned());
        }
    }
    shown
}

fn ending(path: &str, segments: usize) -> &str {
    path.rmatch_indices('.')
        .nth(segments - 1)
        .map_or(path, |(dot, _)| &path[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first_and_once() {
        let names = ["value", "query", "query", "key", "dense"];
        assert_eq!(nearest("qurey", names)[0], "query");
        assert_eq!(
            nearest("qurey", names)
                .iter()
                .filter(|n| *n == "query")
                .count(),
            1
        );
    }

    #[test]
    fn endings_have_as_many_segments_as_the_entry() {
        let paths = ["a.0.self.query", "a.0.self.value", "a.1.self.query"];
        assert_eq!(
            nearest_modules("slf.query", paths.into_iter())[0],
            "self.query"
        );
        assert_eq!(nearest_modules("qery", paths.into_iter())[0], "query");
        assert_eq!(
            nearest_modules("zzzzzzzz", paths.into_iter()),
            ["query", "value"]
        );
    }
}
