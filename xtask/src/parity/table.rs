//! What was compared, and how far the two sides are apart.

use std::fmt;

/// An adapter that moves no state by this much has not been tested.
const LEAST_MOVE: f32 = 0.01;

/// A comparison.
pub struct Row {
    /// Of what.
    pub what: String,
    /// The largest change that the adapter makes to a state, where there is an adapter.
    pub moved: Option<f32>,
    /// The largest difference between the two sides; of a round trip, the tensors that differ.
    pub differs: f32,
    /// The most that `differs` may be.
    pub limit: f32,
}

impl Row {
    /// False for differences that are not numbers, too.
    fn passes(&self) -> bool {
        self.differs <= self.limit && self.moved.is_none_or(|moved| moved >= LEAST_MOVE)
    }
}

/// All comparisons.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds one.
    pub fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Whether all are within their limits.
    pub fn passes(&self) -> bool {
        self.0.iter().all(Row::passes)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.what.len()).max().unwrap_or(0);
        let mut line = |what: &str, cells: [&str; 4]| {
            let [moved, differs, limit, verdict] = cells;
            writeln!(
                f,
                "{what:width$}  {moved:>8}  {differs:>8}  {limit:>6}  {verdict}"
            )
        };
        line("", ["moved by", "differs", "limit", ""])?;
        for row in &self.0 {
            let moved = row.moved.map(|moved| format!("{moved:.3}"));
            let number = |value: f32| match value {
                0.0 => "0".to_owned(),
                value => format!("{value:.0e}"),
            };
            let cells = [
                moved.as_deref().unwrap_or(""),
                &number(row.differs),
                &number(row.limit),
                if row.passes() { "ok" } else { "FAILED" },
            ];
            line(&row.what, cells)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(moved: Option<f32>, differs: f32) -> Table {
        let what = "lora".to_owned();
        let limit = 1e-4;
        Table(vec![Row {
            what,
            moved,
            differs,
            limit,
        }])
    }

    #[test]
    fn a_difference_that_is_too_large_or_no_number_fails() {
        assert!(table(None, 1e-5).passes());
        assert!(!table(None, 1e-3).passes());
        assert!(!table(None, f32::NAN).passes());
    }

    #[test]
    fn an_adapter_that_does_nothing_fails() {
        assert!(table(Some(0.5), 1e-5).passes());
        assert!(!table(Some(1e-4), 1e-5).passes());
        assert!(table(Some(1e-4), 1e-5).to_string().contains("FAILED"));
    }
}
