use coto_adapters::AdapterSet;
use coto_train::Readout;
use serde::Serialize;

use crate::Error;
use crate::evaluation::{Evaluation, Margins, Means};
use crate::join::{fuse, mix};

/// The path from one adapter to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Along the factors: A = Σ wₖ Aₖ, B = Σ wₖ Bₖ.
    Fusion,
    /// Along the weight changes: ΔW = Σ wₖ ΔWₖ.
    Mixture,
}

/// An adapter of a path, and what reads the states with it.
#[derive(Debug, Clone)]
pub struct End {
    /// The adapter.
    pub adapters: AdapterSet,
    /// Its run's readout.
    pub readout: Readout,
}

/// How good a mean of adapters is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Blend {
    /// Each adapter's weight; they sum to 1.
    pub weights: Vec<f64>,
    /// Cross-entropy and accuracy.
    #[serde(flatten)]
    pub means: Means,
}

/// A path between two adapters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// Along what.
    pub join: Join,
    /// Whether the second adapter's factors were turned towards the first's before.
    pub aligned: bool,
    /// From the first adapter to the second.
    pub points: Vec<Blend>,
    /// max_λ \[L(λ) - ((1-λ) L(0) + λ L(1))\] of the loss, among the points.
    pub loss_barrier: f64,
    /// max_λ \[((1-λ) A(0) + λ A(1)) - A(λ)\] of the accuracy, among the points.
    pub accuracy_barrier: f64,
}

/// How good the weighted mean of some adapters is, all their players on; classifiers are averaged too.
///
/// # Errors
/// For adapters that cannot be joined so; as [`Evaluation::judge`].
pub fn blend(
    evaluation: &Evaluation,
    ends: &[End],
    weights: &[f64],
    join: Join,
) -> Result<Blend, Error> {
    let sets: Vec<&AdapterSet> = ends.iter().map(|end| &end.adapters).collect();
    let joined = match join {
        Join::Fusion => fuse(evaluation.model(), &sets, weights)?,
        Join::Mixture => mix(evaluation.model(), &sets, weights)?,
    };
    let readouts: Vec<&Readout> = ends.iter().map(|end| &end.readout).collect();
    let evaluation = evaluation
        .clone()
        .with_readout(Readout::mean(&readouts, weights));
    Ok(Blend {
        weights: weights.to_vec(),
        means: evaluation.whole(&joined, Margins::Unwanted)?,
    })
}

/// Linear mode connectivity: the path between two adapters in so many equal steps, and the barrier on it.
///
/// # Errors
/// As [`blend`]; [`Error::Value`] for no step.
///
/// # Panics
/// If there are not two ends.
pub fn connect(
    evaluation: &Evaluation,
    ends: &[End],
    join: Join,
    aligned: bool,
    steps: usize,
) -> Result<Curve, Error> {
    assert_eq!(ends.len(), 2, "a path has two ends");
    let points = weights(2, steps)?;
    let points = points
        .iter()
        .map(|weights| blend(evaluation, ends, weights, join));
    let points = points.collect::<Result<Vec<_>, _>>()?;
    Ok(Curve {
        join,
        aligned,
        loss_barrier: barrier(&points, |means| means.loss),
        accuracy_barrier: barrier(&points, |means| -means.accuracy),
        points,
    })
}

/// All weights of so many adapters that are multiples of 1 / steps and sum to 1: of two a line, of three a triangle.
///
/// # Errors
/// [`Error::Value`] for no step.
pub fn weights(adapters: usize, steps: usize) -> Result<Vec<Vec<f64>>, Error> {
    if steps == 0 {
        return Err(Error::Value {
            field: "steps",
            value: steps.to_string(),
            reason: "at least 1",
        });
    }
    fn rest(adapters: usize, left: usize, steps: usize) -> Vec<Vec<f64>> {
        if adapters == 1 {
            return vec![vec![left as f64 / steps as f64]];
        }
        let first = (0..=left).rev().flat_map(|own| {
            let others = rest(adapters - 1, left - own, steps).into_iter();
            others.map(move |others| [vec![own as f64 / steps as f64], others].concat())
        });
        first.collect()
    }
    Ok(rest(adapters, steps, steps))
}

/// How far the path rises above the straight line between its ends.
fn barrier(points: &[Blend], height: fn(&Means) -> f64) -> f64 {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return 0.0;
    };
    let [from, to] = [first, last].map(|end| height(&end.means));
    let rise = |point: &Blend| {
        let line = point.weights[0] * from + point.weights[1] * to;
        height(&point.means) - line
    };
    points.iter().map(rise).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_two_are_a_line_and_of_three_a_triangle() {
        assert_eq!(weights(2, 2).unwrap(), [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]);
        let three = weights(3, 10).unwrap();
        assert_eq!(three.len(), 66);
        assert!(
            three
                .iter()
                .all(|w| (w.iter().sum::<f64>() - 1.0).abs() < 1e-12)
        );
        assert!(weights(2, 0).is_err());
    }

    #[test]
    fn the_barrier_is_measured_from_the_line_between_the_ends() {
        let point = |lambda: f64, loss| Blend {
            weights: vec![1.0 - lambda, lambda],
            means: Means {
                loss,
                accuracy: 0.5,
                margin: None,
            },
        };
        let points = [
            point(0.0, 1.0),
            point(0.25, 2.0),
            point(0.5, 2.5),
            point(1.0, 3.0),
        ];
        assert!((barrier(&points, |means| means.loss) - 0.5).abs() < 1e-12);
        assert_eq!(barrier(&points, |means| means.accuracy), 0.0);
    }
}
