use serde::Deserialize;

use super::{Origin, Section, decimals, rows};
use crate::html;
use crate::svg::{LineChart, Look, Series};
use crate::verdict::percent;

/// The result of `coto prune` where pruned adapters were judged.
#[derive(Deserialize)]
pub(super) struct Prune {
    /// What `kept` counts.
    unit: String,
    curves: Vec<Curve>,
    seconds: f64,
}

/// One criterion's curve.
#[derive(Deserialize)]
struct Curve {
    by: String,
    /// By growing share.
    points: Vec<Point>,
    /// Under the accuracy, over the shares.
    area: f64,
}

#[derive(Deserialize)]
struct Point {
    /// In 0..=1.
    kept: f64,
    loss: f64,
    accuracy: f64,
}

pub(super) fn section(result: &Prune, origin: &Origin, id: &str) -> Section {
    let mut ranked: Vec<&Curve> = result.curves.iter().collect();
    ranked.sort_by(|a, b| b.area.total_cmp(&a.area));
    let mut body = match ranked.first() {
        Some(best) if ranked.len() > 1 => html::paragraph(
            "headline",
            &format!(
                "Pruned by {}, accuracy stays highest: {} on average over all shares.",
                best.by,
                percent(best.area)
            ),
        ),
        _ => String::new(),
    };
    body += &html::paragraph("note", &origin.note());
    let x = format!("{} kept, %", result.unit);
    let chart = |name: &str, y: &str, of: &dyn Fn(&Point) -> f64| {
        let series = result
            .curves
            .iter()
            .enumerate()
            .map(|(number, curve)| Series {
                label: curve.by.clone(),
                look: Look {
                    line: number,
                    // Another shape where colours and dashes come around again.
                    mark: number + number / 4,
                },
                points: curve
                    .points
                    .iter()
                    .map(|point| (100.0 * point.kept, of(point)))
                    .collect(),
                raw: vec![],
                bars: vec![],
            });
        LineChart {
            id: &format!("{id}-{name}"),
            title: y,
            desc: &format!(
                "{name} against the share of {} that is kept, one curve for each criterion.",
                result.unit
            ),
            x: &x,
            y,
            series: series.collect(),
        }
        .draw()
    };
    body += &chart("Accuracy", "accuracy, %", &|point| 100.0 * point.accuracy);
    body += &chart("Loss", "loss", &|point| point.loss);
    let losses = || result.curves.iter().flat_map(|curve| &curve.points);
    let digits = decimals(losses().map(|point| point.loss).fold(0.0, f64::max));
    let line = |curve: &Curve, point: &Point| {
        vec![
            curve.by.clone(),
            percent(point.kept),
            format!("{:.digits$}", point.loss),
            percent(point.accuracy),
        ]
    };
    let table: Vec<Vec<String>> = result
        .curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(move |point| line(curve, point)))
        .collect();
    let head = ["Criterion", "Kept", "Loss", "Accuracy"].map(str::to_owned);
    body += &html::table(
        "results",
        &format!("At each share of {} kept.", result.unit),
        &head,
        &table,
    );
    let areas: Vec<(&str, String)> = ranked
        .iter()
        .map(|curve| (curve.by.as_str(), percent(curve.area)))
        .collect();
    body += &html::table(
        "settings",
        "Accuracy on average over the shares (area under the curve).",
        &[],
        &rows(&areas),
    );
    body += &html::paragraph("note", &format!("{:.1} s.", result.seconds));
    Section {
        title: format!("Pruning {}", origin.names().join(", ")),
        body,
    }
}
