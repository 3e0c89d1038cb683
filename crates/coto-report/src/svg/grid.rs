use std::fmt::Write as _;

use super::{WIDTH, figure, heat::tail};
use crate::html::escape;

const TOP: f64 = 26.0;
const HEIGHT: f64 = 34.0;
/// The strongest shade; ink stays readable on it.
const DARKEST: f64 = 0.45;

/// Numbers in rows and columns, each printed in its cell; the greater in size, the darker the cell. One below zero has a dashed
/// frame.
pub(crate) struct Grid<'a> {
    /// Unique within the page.
    pub id: &'a str,
    pub title: &'a str,
    pub desc: &'a str,
    pub columns: Vec<String>,
    /// The first is drawn highest.
    pub rows: Vec<(String, Vec<Option<Cell>>)>,
}

/// A number, as it is printed, and a smaller line below it; may be empty.
pub(crate) struct Cell {
    pub value: f64,
    pub text: String,
    pub note: String,
}

impl Grid<'_> {
    /// The figure; empty where there are no rows or columns.
    pub fn draw(&self) -> String {
        if self.rows.is_empty() || self.columns.is_empty() {
            return String::new();
        }
        let longest = self
            .rows
            .iter()
            .map(|row| tail(&row.0).chars().count())
            .max();
        let left = 12.0 + 7.0 * longest.unwrap_or(0) as f64;
        let width = ((WIDTH - 4.0 - left) / self.columns.len() as f64).min(150.0);
        let cells = || self.rows.iter().flat_map(|row| row.1.iter().flatten());
        let most = cells().map(|cell| cell.value.abs()).fold(0.0, f64::max);
        let noted = cells().any(|cell| !cell.note.is_empty());
        let height = if noted { HEIGHT } else { 24.0 };
        let mut out = String::new();
        for (column, label) in self.columns.iter().enumerate() {
            let fit = (width / 7.0) as usize;
            let _ = writeln!(
                out,
                "<text class=\"soft mid\" x=\"{:.1}\" y=\"{}\">{}<title>{}</title></text>",
                left + width * (column as f64 + 0.5),
                TOP - 8.0,
                escape(&short(label, fit)),
                escape(label)
            );
        }
        for (row, (label, cells)) in self.rows.iter().enumerate() {
            let top = TOP + height * row as f64;
            let _ = writeln!(
                out,
                "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}<title>{}</title></text>",
                left - 8.0,
                top + height / 2.0 + 4.0,
                escape(&tail(label)),
                escape(label)
            );
            for (column, cell) in cells.iter().enumerate() {
                if let Some(cell) = cell {
                    draw(
                        &mut out,
                        cell,
                        [left + width * column as f64, top, width, height],
                        most,
                    );
                }
            }
        }
        let bottom = TOP + height * self.rows.len() as f64 + 4.0;
        figure(self.id, self.title, self.desc, bottom, &out, "")
    }
}

fn draw(out: &mut String, cell: &Cell, [x, y, width, height]: [f64; 4], most: f64) {
    let shade = if most > 0.0 {
        DARKEST * cell.value.abs() / most
    } else {
        0.0
    };
    let (x, y, width, height) = (x + 1.0, y + 1.0, width - 2.0, height - 2.0);
    let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
    let dashed = if cell.value < 0.0 {
        " stroke-dasharray=\"4 3\""
    } else {
        ""
    };
    let _ = write!(
        out,
        "<rect class=\"cells\" fill-opacity=\"{shade:.2}\" {place}/>"
    );
    let _ = write!(out, "<rect class=\"frame\"{dashed} {place}/>");
    let (middle, lift) = (
        x + width / 2.0,
        if cell.note.is_empty() { 0.0 } else { 6.0 },
    );
    let line = y + height / 2.0 + 4.0;
    let _ = writeln!(
        out,
        "<text class=\"mid\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
        line - lift,
        escape(&cell.text)
    );
    if !cell.note.is_empty() {
        let _ = writeln!(
            out,
            "<text class=\"soft mid small\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
            line + 8.0,
            escape(&cell.note)
        );
    }
}

/// The end of a label that is longer than fits.
fn short(label: &str, fit: usize) -> String {
    let count = label.chars().count();
    match count > fit.max(2) {
        true => format!(
            "…{}",
            label
                .chars()
                .skip(count + 1 - fit.max(2))
                .collect::<String>()
        ),
        false => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_printed_and_one_below_zero_is_framed_otherwise() {
        let cell = |value: f64| {
            Some(Cell {
                value,
                text: format!("{value}"),
                note: String::new(),
            })
        };
        let drawn = Grid {
            id: "g",
            title: "t",
            desc: "d",
            columns: vec!["query".into(), "value".into()],
            rows: vec![
                ("layer 1".into(), vec![cell(0.5), cell(-1.5)]),
                ("layer 0".into(), vec![None, cell(0.0)]),
            ],
        }
        .draw();
        assert!(drawn.contains(">0.5</text>") && drawn.contains(">-1.5</text>"));
        assert_eq!(drawn.matches("stroke-dasharray").count(), 1);
        assert_eq!(drawn.matches("class=\"cells\"").count(), 3);
        assert!(drawn.contains("fill-opacity=\"0.45\""));
    }

    #[test]
    fn a_label_keeps_its_end() {
        assert_eq!(short("attention.query", 8), "…n.query");
        assert_eq!(short("query", 8), "query");
    }
}
