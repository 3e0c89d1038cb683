//! The pictures of training runs, shared by both pages.

use crate::read::Run;
use crate::svg::{HeatMap, LineChart, Look, Row, Series};

/// A heat map has at most this many columns of steps.
const COLUMNS: u128 = 120;

/// A run and how its curves are told apart.
pub(crate) struct Curve<'a> {
    pub label: String,
    pub look: Look,
    pub run: &'a Run,
}

/// Training loss, smoothed over the faint raw values.
pub(crate) fn loss(curves: &[Curve]) -> String {
    let window = curves
        .iter()
        .map(|curve| window(curve.run))
        .max()
        .unwrap_or(1);
    let series = curves.iter().map(|curve| {
        let raw: Vec<_> = curve
            .run
            .steps
            .iter()
            .map(|step| (step.step as f64, step.loss))
            .collect();
        Series {
            label: curve.label.clone(),
            look: curve.look,
            points: smooth(&raw, window),
            raw,
            bars: vec![],
        }
    });
    let desc = format!(
        "Training loss at every step: a centred moving mean over {window} steps, the single steps faint behind it. \
         Where layers are switched off, this is the loss of the layers left on."
    );
    LineChart {
        id: "loss",
        title: "Training loss",
        desc: &desc,
        x: "step",
        y: "loss",
        series: series.collect(),
    }
    .draw()
}

/// Validation accuracy; empty where no run was evaluated.
pub(crate) fn accuracy(curves: &[Curve]) -> String {
    let series = curves.iter().map(|curve| {
        let points = curve
            .run
            .evals
            .iter()
            .filter_map(|eval| Some((eval.step as f64, 100.0 * eval.accuracy?)))
            .collect();
        Series {
            label: curve.label.clone(),
            look: curve.look,
            points,
            raw: vec![],
            bars: vec![],
        }
    });
    let desc = "Accuracy on the validation rows during training, with all adapters on.";
    LineChart {
        id: "accuracy",
        title: "Validation accuracy",
        desc,
        x: "step",
        y: "accuracy, %",
        series: series.collect(),
    }
    .draw()
}

/// Validation loss of one run; empty where it was not evaluated.
pub(crate) fn validation_loss(run: &Run) -> String {
    let points = run
        .evals
        .iter()
        .map(|eval| (eval.step as f64, eval.loss))
        .collect();
    let series = vec![Series {
        label: String::new(),
        look: Look { line: 0, mark: 0 },
        points,
        raw: vec![],
        bars: vec![],
    }];
    let desc = "Loss on the validation rows during training, with all adapters on.";
    LineChart {
        id: "validation-loss",
        title: "Validation loss",
        desc,
        x: "step",
        y: "loss",
        series,
    }
    .draw()
}

/// The learning rate of one run.
pub(crate) fn learning_rate(run: &Run) -> String {
    let points = run
        .steps
        .iter()
        .map(|step| (step.step as f64, step.lr))
        .collect();
    let series = vec![Series {
        label: String::new(),
        look: Look { line: 0, mark: 0 },
        points,
        raw: vec![],
        bars: vec![],
    }];
    let desc = "Learning rate at every step.";
    LineChart {
        id: "rate",
        title: "Learning rate",
        desc,
        x: "step",
        y: "learning rate",
        series,
    }
    .draw()
}

/// Which players were on when; `id` must be unique within the page.
pub(crate) fn activation(id: &str, title: &str, run: &Run) -> String {
    let (Some(first), Some(last)) = (run.steps.first(), run.steps.last()) else {
        return String::new();
    };
    let span = u128::from(last.step - first.step) + 1;
    let columns = span.min(COLUMNS);
    let mut on = vec![vec![0u32; columns as usize]; run.players.len()];
    let mut steps = vec![0u32; columns as usize];
    for step in &run.steps {
        let column = (u128::from(step.step - first.step) * columns / span) as usize;
        steps[column] += 1;
        for (player, active) in step.active.bytes().enumerate() {
            on[player][column] += u32::from(active == b'1');
        }
    }
    let rows = run.players.iter().zip(&on).map(|(label, on)| Row {
        label,
        cells: on
            .iter()
            .zip(&steps)
            .map(|(on, all)| (*all > 0).then(|| f64::from(*on) / f64::from(*all)))
            .collect(),
        mean: f64::from(on.iter().sum::<u32>()) / run.steps.len() as f64,
    });
    let desc = "The share of steps at which each adapter group was on, from the bottom of the model upwards; at the right, its mean over the whole run.";
    let range = (first.step as f64, last.step as f64 + 1.0);
    HeatMap {
        id,
        title,
        desc,
        share: "of steps on",
        x: "step",
        range,
        rows: rows.collect(),
    }
    .draw()
}

/// The window of the moving mean: a fortieth of the run, odd so that it has a middle.
pub(crate) fn window(run: &Run) -> usize {
    (run.steps.len() / 40) | 1
}

/// The centred moving mean; at both ends over the part of the window that is there.
fn smooth(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mut sums = vec![0.0];
    for point in points {
        sums.push(sums[sums.len() - 1] + point.1);
    }
    let half = window / 2;
    let mean = |at: usize| {
        let (from, to) = (at.saturating_sub(half), (at + half + 1).min(points.len()));
        (sums[to] - sums[from]) / (to - from) as f64
    };
    points
        .iter()
        .enumerate()
        .map(|(at, point)| (point.0, mean(at)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_centred_and_keeps_a_straight_line_straight_inside() {
        let line: Vec<_> = (0..9).map(|x| (f64::from(x), 2.0 * f64::from(x))).collect();
        let smoothed = smooth(&line, 3);
        assert_eq!(smoothed[1..8], line[1..8]);
        assert_eq!((smoothed[0].1, smoothed[8].1), (1.0, 15.0));
    }

    #[test]
    fn a_window_of_one_changes_nothing() {
        let points = [(0.0, 3.0), (1.0, -1.0)];
        assert_eq!(smooth(&points, 1), points);
    }
}
