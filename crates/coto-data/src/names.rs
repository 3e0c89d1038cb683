/// The right name that is nearest to a wrong one, if there is any name at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest(pub Option<String>);

impl Nearest {
    /// The name of `names` most like `wrong`, shortened where very long.
    pub fn of<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let likeness = |name: &str| strsim::jaro_winkler(wrong, name);
        let nearest = names
            .into_iter()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        Self(nearest.map(shorten))
    }

    /// The end of an error message: `; the nearest is …`, or nothing.
    pub fn hint(&self) -> String {
        match &self.0 {
            Some(name) => format!("; the nearest is `{name}`"),
            None => String::new(),
        }
    }
}

/// The beginning of a value that may be as long as a file.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Names in quotes, at most a handful.
pub(crate) fn quoted(names: &[String], word: &str) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = (names.iter().take(SHOWN))
        .map(|name| format!("`{}`", shorten(name)))
        .collect();
    match (&shown[..], names.len() > SHOWN) {
        ([], _) => "nothing".to_owned(),
        ([only], _) => only.clone(),
        (all, true) => format!("{}, …", all.join(", ")),
        ([first @ .., last], false) => format!("{} {word} {last}", first.join(", ")),
    }
}
