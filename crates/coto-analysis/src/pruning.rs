use std::collections::HashMap;

use coto_adapters::AdapterSet;
use coto_coalition::Coalition;
use coto_peft::Folder;
use coto_prune::nested;
use serde::Serialize;

use crate::evaluation::{Evaluation, Margins, Means};
use crate::{Error, LayerRuns, Value, judge};

/// How well a model does against how much of an adapter is kept.
#[derive(Debug, Clone, Serialize)]
pub struct Pruning {
    /// By what it was chosen what stays.
    pub by: String,
    /// By growing share.
    pub points: Vec<Kept>,
    /// The area under the accuracy against the share, by the trapezoidal rule, over the range of shares: its mean height.
    pub area: f64,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Kept {
    /// The share that is kept, in 0..=1.
    pub kept: f64,
    /// How well that does.
    #[serde(flatten)]
    pub means: Means,
}

impl Pruning {
    fn new(by: &str, mut points: Vec<Kept>) -> Self {
        points.sort_by(|a, b| a.kept.total_cmp(&b.kept));
        let strip = |ends: &[Kept]| {
            (ends[1].kept - ends[0].kept) * (ends[0].means.accuracy + ends[1].means.accuracy) / 2.0
        };
        let under: f64 = points.windows(2).map(strip).sum();
        let area = match (points.first(), points.last()) {
            (Some(first), Some(last)) if last.kept > first.kept => under / (last.kept - first.kept),
            (first, _) => first.map_or(f64::NAN, |only| only.means.accuracy),
        };
        Self {
            by: by.to_owned(),
            points,
            area,
        }
    }
}

/// How well folders do that keep such shares of an adapter.
///
/// # Errors
/// As [`judge`].
pub fn folder_curve<'a>(
    evaluation: &Evaluation,
    by: &str,
    folders: impl IntoIterator<Item = &'a (f64, Folder)>,
) -> Result<Pruning, Error> {
    let points = folders.into_iter().map(|(kept, folder)| {
        Ok(Kept {
            kept: *kept,
            means: judge(evaluation, folder)?,
        })
    });
    Ok(Pruning::new(by, points.collect::<Result<_, Error>>()?))
}

/// Coalitions of one adapter's players, judged through the [`CoalitionTree`](crate::CoalitionTree), each once.
pub struct Judged<'a> {
    evaluation: &'a Evaluation<'a>,
    adapters: &'a AdapterSet,
    margins: Margins,
    known: HashMap<Coalition, Means>,
    runs: LayerRuns,
}

impl<'a> Judged<'a> {
    /// Nothing yet.
    pub fn new(evaluation: &'a Evaluation<'a>, adapters: &'a AdapterSet, margins: Margins) -> Self {
        Self {
            evaluation,
            adapters,
            margins,
            known: HashMap::new(),
            runs: LayerRuns::default(),
        }
    }

    /// How well each coalition does; those not yet known are judged together.
    ///
    /// # Errors
    /// As [`Evaluation::judge`].
    pub fn means(&mut self, coalitions: &[Coalition]) -> Result<Vec<Means>, Error> {
        let mut unknown: Vec<Coalition> = Vec::new();
        for coalition in coalitions {
            if !self.known.contains_key(coalition) && !unknown.contains(coalition) {
                unknown.push(coalition.clone());
            }
        }
        if !unknown.is_empty() {
            let (means, runs) = self
                .evaluation
                .means(self.adapters, &unknown, self.margins)?;
            self.runs += runs;
            self.known.extend(unknown.into_iter().zip(means));
        }
        Ok(coalitions
            .iter()
            .map(|coalition| self.known[coalition])
            .collect())
    }

    /// What each coalition is worth.
    ///
    /// # Errors
    /// As [`means`](Self::means).
    pub fn values(&mut self, value: Value, coalitions: &[Coalition]) -> Result<Vec<f64>, Error> {
        let means = self.means(coalitions)?;
        Ok(means.iter().map(|means| value.of(means)).collect())
    }

    /// How well the first k players of an order do, for k from none to all.
    ///
    /// # Errors
    /// As [`means`](Self::means).
    pub fn curve(&mut self, by: &str, order: &[usize]) -> Result<Pruning, Error> {
        let means = self.means(&nested(order))?;
        let n = order.len().max(1) as f64;
        let points = means.into_iter().enumerate().map(|(k, means)| Kept {
            kept: k as f64 / n,
            means,
        });
        Ok(Pruning::new(by, points.collect()))
    }

    /// The layers run so far.
    pub fn runs(&self) -> LayerRuns {
        self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_mean_height() {
        let point = |kept, accuracy| Kept {
            kept,
            means: Means {
                loss: 1.0,
                accuracy,
                margin: None,
            },
        };
        let curve = Pruning::new("x", vec![point(1.0, 0.9), point(0.0, 0.5), point(0.5, 0.9)]);
        assert!((curve.area - 0.8).abs() < 1e-12);
        assert_eq!(curve.points[0].kept, 0.0);
        let part = Pruning::new("x", vec![point(0.2, 0.5), point(0.6, 0.7)]);
        assert!((part.area - 0.6).abs() < 1e-12);
        assert_eq!(Pruning::new("x", vec![point(0.2, 0.5)]).area, 0.5);
    }
}
