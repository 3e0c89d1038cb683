use std::fmt::Write as _;

use super::{Scale, WIDTH, figure};
use crate::html::escape;

/// Shades between nothing and all; finer differences cannot be seen.
const SHADES: usize = 20;
const RIGHT: f64 = WIDTH - 58.0;
const TOP: f64 = 22.0;
/// The longest row label, in characters and in units of width each.
const LABEL: usize = 30;
const CHARACTER: f64 = 7.0;

/// Shares in 0..=1, rows × columns, drawn by lightness: the darker (on a dark page the lighter), the greater.
pub(crate) struct HeatMap<'a> {
    /// Unique within the page.
    pub id: &'a str,
    pub title: &'a str,
    pub desc: &'a str,
    /// What a share is of, named beside the legend.
    pub share: &'a str,
    pub x: &'a str,
    /// The range the columns divide evenly.
    pub range: (f64, f64),
    pub rows: Vec<Row<'a>>,
}

/// One row; the first is drawn lowest.
pub(crate) struct Row<'a> {
    pub label: &'a str,
    /// Columns without data are left blank.
    pub cells: Vec<Option<f64>>,
    /// Printed as a number at the row's end.
    pub mean: f64,
}

impl HeatMap<'_> {
    /// The figure; empty where there are no rows.
    pub fn draw(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let height = (300.0 / self.rows.len() as f64).clamp(4.0, 24.0);
        let bottom = TOP + height * self.rows.len() as f64;
        let longest = self
            .rows
            .iter()
            .map(|row| row.label.chars().count().min(LABEL))
            .max()
            .unwrap_or(0);
        let left = 16.0 + CHARACTER * longest as f64;
        let x = Scale {
            low: self.range.0,
            high: self.range.1,
            from: left,
            to: RIGHT,
        };

        let mut out = self.cells(left, bottom, height);
        let _ = writeln!(
            out,
            "<rect class=\"frame\" x=\"{left}\" y=\"{TOP}\" width=\"{}\" height=\"{:.1}\"/>",
            RIGHT - left,
            bottom - TOP
        );
        out.push_str(&self.labels(left, bottom, height));
        for (at, label) in x.ticks() {
            let _ = write!(out, "<path class=\"grid\" d=\"M{at:.1} {bottom:.1}v5\"/>");
            let _ = writeln!(
                out,
                "<text class=\"soft mid\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 19.0
            );
        }
        let middle = (left + RIGHT) / 2.0;
        let _ = writeln!(
            out,
            "<text class=\"mid\" x=\"{middle}\" y=\"{:.1}\">{}</text>",
            bottom + 38.0,
            escape(self.x)
        );
        out.push_str(&self.legend(left, bottom + 52.0));
        figure(self.id, self.title, self.desc, bottom + 72.0, &out, "")
    }

    /// One path per shade keeps the page small.
    fn cells(&self, left: f64, bottom: f64, height: f64) -> String {
        let mut shades = vec![String::new(); SHADES + 1];
        for (index, row) in self.rows.iter().enumerate() {
            let top = bottom - height * (index + 1) as f64;
            let width = (RIGHT - left) / row.cells.len() as f64;
            let mut column = 0;
            for run in row.cells.chunk_by(|a, b| shade(*a) == shade(*b)) {
                let (from, long) = (left + width * column as f64, width * run.len() as f64);
                column += run.len();
                if let Some(shade @ 1..) = shade(run[0]) {
                    let _ = write!(
                        shades[shade],
                        "M{from:.2} {top:.2}h{long:.2}v{height:.2}h-{long:.2}z"
                    );
                }
            }
        }
        let mut out = String::new();
        for (shade, cells) in shades
            .iter()
            .enumerate()
            .filter(|(_, cells)| !cells.is_empty())
        {
            let opacity = shade as f64 / SHADES as f64;
            let _ = writeln!(
                out,
                "<path class=\"cells\" fill-opacity=\"{opacity:.2}\" d=\"{cells}\"/>"
            );
        }
        out
    }

    fn labels(&self, left: f64, bottom: f64, height: f64) -> String {
        let (end, every) = (RIGHT + 50.0, (13.0 / height).ceil() as usize);
        let mut out = format!(
            "<text class=\"soft end\" x=\"{end}\" y=\"{}\">mean</text>\n",
            TOP - 8.0
        );
        for (index, row) in self.rows.iter().enumerate().step_by(every) {
            let y = bottom - height * (index as f64 + 0.5) + 4.0;
            let (label, whole) = (escape(&tail(row.label)), escape(row.label));
            let _ = write!(
                out,
                "<text class=\"end\" x=\"{:.1}\" y=\"{y:.1}\">{label}<title>{whole}</title></text>",
                left - 8.0
            );
            let _ = writeln!(
                out,
                "<text class=\"end\" x=\"{end}\" y=\"{y:.1}\">{:.0} %</text>",
                100.0 * row.mean
            );
        }
        out
    }

    fn legend(&self, left: f64, top: f64) -> String {
        let mut out = String::new();
        for step in 0..=4 {
            let (x, share) = (left + 62.0 * f64::from(step), f64::from(step) / 4.0);
            let _ = write!(
                out,
                "<rect class=\"cells\" fill-opacity=\"{share:.2}\" x=\"{x}\" y=\"{top}\" width=\"18\" height=\"12\"/>"
            );
            let _ = write!(
                out,
                "<rect class=\"frame\" x=\"{x}\" y=\"{top}\" width=\"18\" height=\"12\"/>"
            );
            let _ = writeln!(
                out,
                "<text class=\"soft\" x=\"{}\" y=\"{}\">{:.0} %</text>",
                x + 23.0,
                top + 10.0,
                100.0 * share
            );
        }
        let _ = writeln!(
            out,
            "<text class=\"soft\" x=\"{}\" y=\"{}\">{}</text>",
            left + 324.0,
            top + 10.0,
            escape(self.share)
        );
        out
    }
}

fn shade(share: Option<f64>) -> Option<usize> {
    share.map(|share| (share.clamp(0.0, 1.0) * SHADES as f64).round() as usize)
}

/// A long module path differs from its neighbours near its end, so that is the part to keep.
pub(super) fn tail(label: &str) -> String {
    let count = label.chars().count();
    match count > LABEL {
        true => format!(
            "…{}",
            label.chars().skip(count - LABEL + 1).collect::<String>()
        ),
        false => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(cells: Vec<Option<f64>>) -> String {
        let rows = vec![Row {
            label: "layer.0",
            cells,
            mean: 0.5,
        }];
        HeatMap {
            id: "h",
            title: "t",
            desc: "d",
            share: "of steps",
            x: "step",
            range: (0.0, 4.0),
            rows,
        }
        .draw()
    }

    #[test]
    fn equal_neighbours_become_one_cell_and_off_or_blank_ones_none() {
        let drawn = map(vec![Some(1.0), Some(1.0), None, Some(0.0)]);
        let cells = drawn
            .lines()
            .filter(|line| line.starts_with("<path class=\"cells\""))
            .collect::<Vec<_>>();
        assert_eq!(cells.len(), 1);
        assert!(
            cells[0].contains("fill-opacity=\"1.00\"") && cells[0].matches('M').count() == 1,
            "{cells:?}"
        );
    }

    #[test]
    fn the_mean_of_a_row_is_printed() {
        assert!(map(vec![Some(0.5)]).contains(">50 %</text>"));
    }

    #[test]
    fn a_long_name_keeps_its_tail() {
        let name = "base.encoder.layer.11.attention.self.query";
        let short = tail(name);
        assert_eq!(short.chars().count(), LABEL);
        assert!(name.ends_with(short.trim_start_matches('…')));
    }
}
