//! Pictures drawn by hand. Every text they are given is plain and escaped here.

mod bars;
mod grid;
mod heat;
mod line;
mod places;

pub(crate) use bars::{Bar, Bars};
pub(crate) use grid::{Cell, Grid};
pub(crate) use heat::{HeatMap, Row};
pub(crate) use line::{LineChart, Look, Series};
pub(crate) use places::{Place, Places};

use crate::html::escape;

/// Width of every picture in its own units; the page scales it.
const WIDTH: f64 = 760.0;

/// A figure: the picture with its title and description for those who cannot see it, a caption, and a legend (markup).
fn figure(id: &str, title: &str, desc: &str, height: f64, picture: &str, legend: &str) -> String {
    let (title, desc) = (escape(title), escape(desc));
    format!(
        "<figure>\n<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{desc}</desc>\n{picture}</svg>\n{legend}\
         <figcaption>{desc}</figcaption>\n</figure>\n"
    )
}

/// A linear map from `low..=high` of the data to `from..=to` of the picture.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// About five round numbers within the range, as their places and labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        let step = round_step(self.high - self.low);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        // 2.5 has one decimal more than its power of ten.
        let decimals = decimals + usize::from((step * 10f64.powi(decimals as i32)).fract() > 1e-6);
        let (first, slack) = (
            (self.low / step - 1e-9).ceil() as i64,
            self.high + step * 1e-9,
        );
        (first..)
            .map(|k| k as f64 * step)
            .take_while(|value| *value <= slack)
            .map(|value| (self.at(value), format!("{value:.decimals$}")))
            .collect()
    }
}

/// The round number nearest above a fifth of the span.
fn round_step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let unit = [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .find(|unit| unit * power >= rough * (1.0 - 1e-9));
    unit.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        let scale = Scale {
            low,
            high,
            from: 0.0,
            to: 100.0,
        };
        scale.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_within_the_range() {
        assert_eq!(labels(0.0, 960.0), ["0", "200", "400", "600", "800"]);
        assert_eq!(labels(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(
            labels(1.25, 2.5),
            ["1.25", "1.50", "1.75", "2.00", "2.25", "2.50"]
        );
        assert_eq!(
            labels(0.0, 0.004),
            ["0.000", "0.001", "0.002", "0.003", "0.004"]
        );
    }

    #[test]
    fn a_scale_maps_its_ends_to_its_ends() {
        let down = Scale {
            low: 1.0,
            high: 3.0,
            from: 200.0,
            to: 0.0,
        };
        assert_eq!(
            [1.0, 2.0, 3.0].map(|value| down.at(value)),
            [200.0, 100.0, 0.0]
        );
    }
}
