use std::fmt::Write as _;

use super::{Scale, WIDTH, figure, round_step};
use crate::html::escape;

const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 46.0;
/// No curve is drawn with many more points than the picture has columns.
const COLUMNS: usize = 400;
/// Curves with at most this many points carry a mark on each.
const MARKED: usize = 30;

/// How a curve is told from the others, in black and white too.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// Its colour and dashes.
    pub line: usize,
    /// The shape of its marks.
    pub mark: usize,
}

/// One curve.
pub(crate) struct Series {
    pub label: String,
    pub look: Look,
    /// (x, y) by growing x.
    pub points: Vec<(f64, f64)>,
    /// What `points` smooths, drawn faintly; may be empty.
    pub raw: Vec<(f64, f64)>,
    /// (x, low, high) of each whisker; may be empty.
    pub bars: Vec<(f64, f64, f64)>,
}

/// Curves over linear axes.
pub(crate) struct LineChart<'a> {
    /// Unique within the page.
    pub id: &'a str,
    pub title: &'a str,
    pub desc: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub series: Vec<Series>,
}

impl LineChart<'_> {
    /// The figure; empty where there is no point to draw.
    pub fn draw(&self) -> String {
        let all = || {
            self.series
                .iter()
                .flat_map(|series| series.points.iter().chain(&series.raw))
        };
        if all().next().is_none() {
            return String::new();
        }
        let (low, high) = range(all().map(|point| point.0));
        let x = Scale {
            low,
            high,
            from: LEFT,
            to: RIGHT,
        };
        let bars = || self.series.iter().flat_map(|series| &series.bars);
        let ends = bars().flat_map(|bar| [bar.1, bar.2]);
        let (low, high) = rounded(range(all().map(|point| point.1).chain(ends)));
        let y = Scale {
            low,
            high,
            from: BOTTOM,
            to: TOP,
        };

        let mut out = self.axes(x, y);
        for series in self.series.iter().filter(|series| !series.raw.is_empty()) {
            let _ = writeln!(
                out,
                "<path class=\"raw s{}\" d=\"{}\"/>",
                series.look.line % 4,
                path(&envelope(&series.raw), x, y)
            );
        }
        for (index, series) in self.series.iter().enumerate() {
            let line = series.look.line % 4;
            let _ = writeln!(
                out,
                "<path class=\"curve s{line}\" d=\"{}\"/>",
                path(&thinned(&series.points), x, y)
            );
            for &(at, low, high) in series.bars.iter().filter(|bar| bar.1 < bar.2) {
                let (at, low, high) = (x.at(at), y.at(low), y.at(high));
                let _ = writeln!(
                    out,
                    "<path class=\"whisker s{line}\" d=\"M{at:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\"/>",
                    at - 4.0,
                    at - 4.0
                );
            }
            let _ = write!(out, "<path class=\"mark s{line}\" d=\"");
            for place in marked(series.points.len(), index, self.series.len()) {
                let (px, py) = series.points[place];
                out.push_str(&mark(series.look.mark, x.at(px), y.at(py)));
            }
            out.push_str("\"/>\n");
        }
        figure(self.id, self.title, self.desc, HEIGHT, &out, &self.legend())
    }

    fn axes(&self, x: Scale, y: Scale) -> String {
        let mut out = String::new();
        for (at, label) in y.ticks() {
            let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>");
            let _ = writeln!(
                out,
                "<text class=\"soft end\" x=\"{}\" y=\"{:.1}\">{label}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (at, label) in x.ticks() {
            let _ = write!(out, "<path class=\"grid\" d=\"M{at:.1} {BOTTOM}v5\"/>");
            let _ = writeln!(
                out,
                "<text class=\"soft mid\" x=\"{at:.1}\" y=\"{}\">{label}</text>",
                BOTTOM + 19.0
            );
        }
        let (middle, height) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        let _ = writeln!(
            out,
            "<text class=\"mid\" x=\"{middle}\" y=\"{}\">{}</text>",
            HEIGHT - 6.0,
            escape(self.x)
        );
        let _ = writeln!(
            out,
            "<text class=\"mid\" transform=\"translate(13 {height}) rotate(-90)\">{}</text>",
            escape(self.y)
        );
        out
    }

    /// A list below the picture rather than texts in it: it wraps by itself. One curve needs none.
    fn legend(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let mut out = String::from("<ul class=\"legend\">\n");
        for series in &self.series {
            let (line, mark) = (series.look.line % 4, mark(series.look.mark, 22.0, 6.0));
            let _ = writeln!(
                out,
                "<li><svg viewBox=\"0 0 44 12\" aria-hidden=\"true\"><path class=\"curve s{line}\" d=\"M0 6H44\"/>\
                 <path class=\"mark s{line}\" d=\"{mark}\"/></svg>{}</li>",
                escape(&series.label)
            );
        }
        out.push_str("</ul>\n");
        out
    }
}

/// The least and greatest value, never the same, and from zero where that costs little of the axis.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > 0.0 && low < 0.4 * high {
        return (0.0, high);
    }
    let pad = if low < high {
        0.0
    } else {
        low.abs().max(1.0) / 2.0
    };
    (low - pad, high + pad)
}

/// The range widened to round numbers.
pub(super) fn rounded((low, high): (f64, f64)) -> (f64, f64) {
    let step = round_step(high - low);
    (
        (low / step + 1e-9).floor() * step,
        (high / step - 1e-9).ceil() * step,
    )
}

fn path(points: &[(f64, f64)], x: Scale, y: Scale) -> String {
    let mut out = String::new();
    for (index, (px, py)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(out, "{command}{:.1} {:.1}", x.at(*px), y.at(*py));
    }
    out
}

/// Evenly many of the points, and the last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(COLUMNS).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(index, _)| index % every == 0 || *index == last)
        .map(|(_, point)| *point)
        .collect()
}

/// The lowest and the highest point of each column, so that thinning hides no spike.
fn envelope(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(COLUMNS);
    if every < 3 {
        return points.to_vec();
    }
    let mut out = Vec::new();
    for column in points.chunks(every) {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let mut ends: Vec<_> = column
            .iter()
            .min_by(by_height)
            .into_iter()
            .chain(column.iter().max_by(by_height))
            .copied()
            .collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        out.extend(ends);
    }
    out
}

/// Which of a curve's points carry a mark: all, where they are few, else some, where there are others to tell it from.
/// Curves of one chart carry theirs at different places.
fn marked(points: usize, index: usize, curves: usize) -> Vec<usize> {
    if points <= MARKED {
        return (0..points).collect();
    }
    if curves == 1 {
        return Vec::new();
    }
    let places = 7 * curves;
    (0..7)
        .map(|k| (2 * (k * curves + index) + 1) * points / (2 * places))
        .collect()
}

/// A closed outline about (x, y): circle, square, triangle, diamond, and around again.
fn mark(shape: usize, x: f64, y: f64) -> String {
    let (left, top) = (x - 4.0, y - 4.0);
    match shape % 4 {
        0 => format!("M{left:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"),
        1 => format!("M{left:.1} {top:.1}h8v8h-8z"),
        2 => format!("M{x:.1} {top:.1}l4.6 8h-9.2z"),
        _ => format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let series = vec![Series {
            label: "a".into(),
            look: Look { line: 0, mark: 0 },
            points,
            raw: vec![],
            bars: vec![],
        }];
        LineChart {
            id: "c",
            title: "t",
            desc: "d",
            x: "x",
            y: "y",
            series,
        }
        .draw()
    }

    #[test]
    fn nothing_to_draw_is_no_figure() {
        assert_eq!(chart(vec![]), "");
    }

    #[test]
    fn one_point_or_a_flat_curve_has_finite_places() {
        for points in [vec![(0.0, 0.0)], vec![(0.0, 3.0), (1.0, 3.0)]] {
            let drawn = chart(points);
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        }
    }

    #[test]
    fn a_spike_survives_thinning() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|x| (f64::from(x), 1.0)).collect();
        points[5_001].1 = 9.0;
        let thin = envelope(&points);
        assert!(thin.len() <= 2 * COLUMNS && thin.contains(&(5_001.0, 9.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn an_axis_starts_at_zero_unless_that_would_flatten_the_curve() {
        assert_eq!(range([1.0, 4.0].into_iter()), (0.0, 4.0));
        assert_eq!(range([3.0, 4.0].into_iter()), (3.0, 4.0));
        assert_eq!(range([-1.0, 4.0].into_iter()), (-1.0, 4.0));
    }

    #[test]
    fn marks_of_two_long_curves_never_share_a_place() {
        let (a, b) = (marked(960, 0, 2), marked(960, 1, 2));
        assert!(
            a.iter().all(|place| !b.contains(place))
                && a.iter().chain(&b).all(|place| *place < 960)
        );
    }
}
