use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::text::by_text;

/// What magnitudes are compared within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each factor of each module by itself.
    Tensor,
    /// Each row of each factor by itself: an input pattern of A, an output of B.
    Row,
    /// All entries of all factors of all modules together, as they lie in the folder, without the scales.
    Global,
}

impl Scope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::Row => "row",
            Self::Global => "global",
        }
    }
}

/// How many entries become zero. As a text: `0.5`, or `2:4`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sparsity {
    /// ⌊share · n⌋ of the n entries that are compared with each other; the share is in [0, 1).
    Share(f64),
    /// N:M: of every `of` consecutive entries of a row `kept` stay. A scope of its own.
    Pattern {
        /// N.
        kept: usize,
        /// M, at most 128.
        of: usize,
    },
}

by_text!(Sparsity);

impl Sparsity {
    /// # Errors
    /// [`Error::Number`] for a share outside [0, 1), or a pattern without 1 ≤ N < M ≤ 128.
    pub(crate) fn check(self) -> Result<Self, Error> {
        let wrong = |what, value, expected: &str| Error::Number {
            what,
            value,
            expected: expected.to_owned(),
        };
        match self {
            Self::Share(share) if !(0.0..1.0).contains(&share) => {
                Err(wrong("the sparsity", share, "at least 0 and below 1"))
            }
            Self::Pattern { of, .. } if !(2..=128).contains(&of) => {
                Err(wrong("M of the N:M pattern", of as f64, "2 to 128"))
            }
            Self::Pattern { kept, of } if !(1..of).contains(&kept) => Err(wrong(
                "N of the N:M pattern",
                kept as f64,
                "at least 1 and below M",
            )),
            _ => Ok(self),
        }
    }

    /// How many of so many entries become zero.
    pub(crate) fn zeros(self, entries: usize) -> usize {
        match self {
            // 0.29 · 100 is 28.999…
            Self::Share(share) => (share * entries as f64 + 1e-9).floor() as usize,
            Self::Pattern { kept, of } => entries / of * (of - kept),
        }
    }
}

impl FromStr for Sparsity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = match text.split_once(':') {
            Some((kept, of)) => kept
                .parse()
                .ok()
                .zip(of.parse().ok())
                .map(|(kept, of)| Self::Pattern { kept, of }),
            None => text.parse().ok().map(Self::Share),
        };
        let read = read.ok_or_else(|| Error::Text {
            what: "sparsity",
            text: text.to_owned(),
            known: "a share such as `0.5`, and N:M such as `2:4`",
        })?;
        read.check()
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}"),
            Self::Pattern { kept, of } => write!(f, "{kept}:{of}"),
        }
    }
}

/// The `count` lowest of some scores; of equals the earlier ones.
pub(crate) fn lowest(scores: &[f64], count: usize) -> Vec<bool> {
    let mut mask = vec![false; scores.len()];
    if count > 0 {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let (low, at, _) = order.select_nth_unstable_by(count - 1, |&a, &b| {
            scores[a].total_cmp(&scores[b]).then(a.cmp(&b))
        });
        low.iter()
            .chain([&*at])
            .for_each(|&index| mask[index] = true);
    }
    mask
}

/// The lowest of each run of `group` scores.
pub(crate) fn lowest_of_each(scores: &[f64], group: usize, sparsity: Sparsity) -> Vec<bool> {
    let runs = scores.chunks(group.max(1));
    runs.flat_map(|run| lowest(run, sparsity.zeros(run.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_are_exactly_so_many_and_of_equals_the_earlier() {
        assert_eq!(lowest(&[2.0, 1.0, 1.0, 1.0], 2), [false, true, true, false]);
        assert_eq!(lowest(&[2.0, 1.0], 0), [false, false]);
        assert_eq!(lowest(&[2.0, 1.0], 2), [true, true]);
        let pattern = Sparsity::Pattern { kept: 1, of: 2 };
        assert_eq!(
            lowest_of_each(&[3.0, 4.0, 2.0, 1.0], 2, pattern),
            [true, false, false, true]
        );
        for (share, zeros) in [(0.29, 29), (0.295, 29), (0.0, 0), (0.999, 99)] {
            assert_eq!(Sparsity::Share(share).zeros(100), zeros);
        }
    }

    #[test]
    fn a_sparsity_is_its_text() {
        for text in ["0.5", "0", "2:4"] {
            let sparsity: Sparsity = text.parse().unwrap();
            assert_eq!(
                serde_json::to_string(&sparsity).unwrap(),
                format!("\"{text}\"")
            );
        }
        for (text, says) in [
            ("half", "`half` is no sparsity"),
            ("1", "below 1"),
            ("-0.1", "is -0.1"),
            ("nan", "is NaN"),
            ("4:4", "below M"),
            ("0:4", "at least 1"),
            ("1:1", "2 to 128"),
            ("2:x", "`2:x`"),
        ] {
            let error = text.parse::<Sparsity>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
