use std::fmt::Write as _;

use super::{WIDTH, figure};
use crate::html::escape;

/// The strongest shade; ink stays readable on it.
const DARKEST: f64 = 0.45;
const HEIGHT: f64 = 520.0;

/// Texts in circles at their places on a plane, both axes alike.
pub(crate) struct Places<'a> {
    /// Unique within the page.
    pub id: &'a str,
    pub title: &'a str,
    pub desc: &'a str,
    pub radius: f64,
    pub places: Vec<Place>,
    /// Texts beside the circles, centred on their places.
    pub notes: Vec<(f64, f64, String)>,
}

/// One circle.
pub(crate) struct Place {
    pub x: f64,
    /// Upwards.
    pub y: f64,
    pub text: String,
    /// From 0, as the page, to 1.
    pub shade: f64,
    /// Whether its outline is thick.
    pub strong: bool,
}

impl Places<'_> {
    /// The figure; empty where there is nothing to place.
    pub fn draw(&self) -> String {
        if self.places.is_empty() {
            return String::new();
        }
        let notes = self.notes.iter().map(|note| (note.0, note.1));
        let all = || {
            self.places
                .iter()
                .map(|place| (place.x, place.y))
                .chain(notes.clone())
        };
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            })
        };
        let (left, right) = range(&mut all().map(|p| p.0));
        let (low, high) = range(&mut all().map(|p| p.1));
        let margin = self.radius + 16.0;
        let spans = [
            (WIDTH - 2.0 * margin) / (right - left),
            (HEIGHT - 2.0 * margin) / (high - low),
        ];
        let scale = spans
            .into_iter()
            .filter(|s| s.is_finite())
            .fold(f64::INFINITY, f64::min);
        let scale = if scale.is_finite() { scale } else { 1.0 };
        let indent = (WIDTH - scale * (right - left)) / 2.0;
        let at = |x: f64, y: f64| (indent + scale * (x - left), margin + scale * (high - y));
        let mut out = String::new();
        for place in &self.places {
            let (x, y) = at(place.x, place.y);
            let shade = DARKEST * place.shade.clamp(0.0, 1.0);
            let class = if place.strong { "ring strong" } else { "ring" };
            let circle = format!("cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{}\"", self.radius);
            let _ = write!(
                out,
                "<circle class=\"cells\" fill-opacity=\"{shade:.2}\" {circle}/>"
            );
            let _ = write!(out, "<circle class=\"{class}\" {circle}/>");
            let _ = writeln!(
                out,
                "<text class=\"mid\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                y + 4.0,
                escape(&place.text)
            );
        }
        for (x, y, text) in &self.notes {
            let (x, y) = at(*x, *y);
            let _ = writeln!(
                out,
                "<text class=\"mid\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                y + 4.0,
                escape(text)
            );
        }
        let height = scale * (high - low) + 2.0 * margin;
        figure(self.id, self.title, self.desc, height, &out, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_or_several_at_one_have_finite_places() {
        for count in 1..3 {
            let place = |_| Place {
                x: 2.0,
                y: -1.0,
                text: "1".into(),
                shade: 0.0,
                strong: false,
            };
            let drawn = Places {
                id: "p",
                title: "t",
                desc: "d",
                radius: 10.0,
                places: (0..count).map(place).collect(),
                notes: vec![],
            }
            .draw();
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        }
    }
}
