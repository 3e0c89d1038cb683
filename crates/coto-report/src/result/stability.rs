use serde::Deserialize;

use super::shapley::LayerRuns;
use super::{Origin, Section, decimals, rows};
use crate::html;
use crate::svg::{LineChart, Look, Series};
use crate::verdict::percent;

/// The result of `coto stability`.
#[derive(Deserialize)]
pub(super) struct Stability {
    players: Vec<String>,
    sizes: Vec<Size>,
    layer_runs: LayerRuns,
    seconds: f64,
}

#[derive(Deserialize)]
struct Size {
    active: usize,
    coalitions: usize,
    all: bool,
    loss: Spread,
    accuracy: Spread,
}

#[derive(Deserialize, Clone, Copy)]
struct Spread {
    mean: f64,
    deviation: f64,
    low: f64,
    high: f64,
}

pub(super) fn section(result: &Stability, origin: &Origin, id: &str) -> Section {
    let mut body = html::paragraph("headline", &headline(result));
    body += &html::paragraph("note", &origin.note());
    let chart = |name: &str, y: &str, of: &dyn Fn(&Size) -> Spread, scale: f64| {
        let point = |size: &Size| (size.active as f64, scale * of(size).mean);
        let bar = |size: &Size| {
            let Spread {
                mean, deviation, ..
            } = of(size);
            (
                size.active as f64,
                scale * (mean - deviation),
                scale * (mean + deviation),
            )
        };
        LineChart {
            id: &format!("{id}-{name}"),
            title: y,
            desc: &format!(
                "{name} against the number of players that are on: the mean over coalitions of each size; whiskers are one standard deviation between coalitions."
            ),
            x: "players on",
            y,
            series: vec![Series {
                label: String::new(),
                look: Look { line: 0, mark: 0 },
                points: result.sizes.iter().map(point).collect(),
                raw: vec![],
                bars: result.sizes.iter().map(bar).collect(),
            }],
        }
        .draw()
    };
    body += &chart("Loss", "loss", &|size| size.loss, 1.0);
    body += &chart("Accuracy", "accuracy, %", &|size| size.accuracy, 100.0);
    let head = [
        "Players on",
        "Coalitions",
        "Loss",
        "Least",
        "Greatest",
        "Accuracy",
        "Least",
        "Greatest",
    ];
    let digits = decimals(
        result
            .sizes
            .iter()
            .map(|size| size.loss.high)
            .fold(0.0, f64::max),
    );
    let row = |size: &Size| {
        let (loss, accuracy) = (size.loss, size.accuracy);
        let all = if size.all { " (all)" } else { "" };
        let loss = [loss.mean, loss.low, loss.high].map(|x| format!("{x:.digits$}"));
        let accuracy = [accuracy.mean, accuracy.low, accuracy.high].map(percent);
        let mut cells = vec![size.active.to_string(), format!("{}{all}", size.coalitions)];
        cells.extend(loss);
        cells.extend(accuracy);
        cells
    };
    let table: Vec<Vec<String>> = result.sizes.iter().map(row).collect();
    body += &html::table(
        "results",
        "Over the coalitions of each size.",
        &head.map(str::to_owned),
        &table,
    );
    body += &html::table(
        "settings",
        "How it was measured.",
        &[],
        &rows(&[
            ("Players", result.players.len().to_string()),
            ("Layer runs", result.layer_runs.text()),
            ("Seconds", format!("{:.1}", result.seconds)),
        ]),
    );
    Section {
        title: format!("Dropout stability of {}", origin.names().join(", ")),
        body,
    }
}

fn headline(result: &Stability) -> String {
    let at = |active: usize| result.sizes.iter().find(|size| size.active == active);
    let all = result.players.len();
    match (at(all), at(all / 2), at(0)) {
        (Some(whole), Some(half), Some(none)) => format!(
            "Accuracy is {} with all {all} players on, {} on average with {} of them, and {} with none.",
            percent(whole.accuracy.mean),
            percent(half.accuracy.mean),
            half.active,
            percent(none.accuracy.mean)
        ),
        _ => String::new(),
    }
}
