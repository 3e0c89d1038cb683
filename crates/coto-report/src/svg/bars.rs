use std::fmt::Write as _;

use super::{Scale, WIDTH, figure, heat::tail, line::rounded};
use crate::html::escape;

const TOP: f64 = 10.0;
const HEIGHT: f64 = 22.0;
const RIGHT: f64 = WIDTH - 90.0;

/// A bar from zero for each of some values, with its interval.
pub(crate) struct Bars<'a> {
    /// Unique within the page.
    pub id: &'a str,
    pub title: &'a str,
    pub desc: &'a str,
    pub x: &'a str,
    /// The first is drawn highest.
    pub bars: Vec<Bar>,
}

/// One bar.
pub(crate) struct Bar {
    pub label: String,
    pub value: f64,
    /// From where to where it may be.
    pub interval: Option<(f64, f64)>,
    /// The number as it is printed.
    pub text: String,
}

impl Bars<'_> {
    /// The figure; empty where there are no bars.
    pub fn draw(&self) -> String {
        if self.bars.is_empty() {
            return String::new();
        }
        let ends = self.bars.iter().flat_map(|bar| {
            let (low, high) = bar.interval.unwrap_or((bar.value, bar.value));
            [low, high, bar.value, 0.0]
        });
        let (low, high) = ends.fold((0f64, 0f64), |(low, high), x| (low.min(x), high.max(x)));
        let (low, high) = match low < high {
            true => rounded((low, high)),
            false => (0.0, 1.0),
        };
        let longest = self
            .bars
            .iter()
            .map(|bar| tail(&bar.label).chars().count())
            .max();
        let left = 14.0 + 7.0 * longest.unwrap_or(0) as f64;
        let x = Scale {
            low,
            high,
            from: left,
            to: RIGHT,
        };
        let bottom = TOP + HEIGHT * self.bars.len() as f64;
        let mut out = String::new();
        for (at, label) in x.ticks() {
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom:.1}\"/>"
            );
            let _ = writeln!(
                out,
                "<text class=\"soft mid\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 17.0
            );
        }
        for (index, bar) in self.bars.iter().enumerate() {
            bar.draw(&mut out, x, TOP + HEIGHT * index as f64, left);
        }
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{:.1} {TOP}V{bottom:.1}\"/>",
            x.at(0.0)
        );
        let _ = writeln!(
            out,
            "<text class=\"mid\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            (left + RIGHT) / 2.0,
            bottom + 36.0,
            escape(self.x)
        );
        figure(self.id, self.title, self.desc, bottom + 44.0, &out, "")
    }
}

impl Bar {
    fn draw(&self, out: &mut String, x: Scale, top: f64, left: f64) {
        let (zero, end, line) = (x.at(0.0), x.at(self.value), top + HEIGHT / 2.0);
        let _ = writeln!(
            out,
            "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}<title>{}</title></text>",
            left - 8.0,
            line + 4.0,
            escape(&tail(&self.label)),
            escape(&self.label)
        );
        let _ = writeln!(
            out,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            zero.min(end),
            top + 4.0,
            (zero - end).abs(),
            HEIGHT - 8.0
        );
        if let Some((low, high)) = self.interval.filter(|(low, high)| low < high) {
            let (low, high) = (x.at(low), x.at(high));
            let _ = writeln!(
                out,
                "<path class=\"axis\" d=\"M{low:.1} {line:.1}H{high:.1}M{low:.1} {:.1}v8M{high:.1} {:.1}v8\"/>",
                line - 4.0,
                line - 4.0
            );
        }
        let _ = writeln!(
            out,
            "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - 4.0,
            line + 4.0,
            escape(&self.text)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_start_at_zero_and_an_interval_of_no_length_is_not_drawn() {
        let bar = |value, interval| Bar {
            label: "layer.0".into(),
            value,
            interval,
            text: format!("{value}"),
        };
        let bars = Bars {
            id: "b",
            title: "t",
            desc: "d",
            x: "x",
            bars: vec![
                bar(1.0, Some((0.5, 1.5))),
                bar(-0.5, Some((-0.5, -0.5))),
                bar(0.0, None),
            ],
        };
        let drawn = bars.draw();
        assert_eq!(drawn.matches("class=\"bar\"").count(), 3);
        assert_eq!(drawn.matches("v8M").count(), 1);
        let nothing = Bars {
            bars: vec![bar(0.0, None)],
            ..bars
        };
        assert!(!nothing.draw().contains("NaN"));
    }
}
