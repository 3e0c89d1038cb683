use serde::Deserialize;

use super::{Origin, Section};
use crate::html;
use crate::svg::{LineChart, Look, Place, Places, Series};
use crate::verdict::percent;

/// The result of `coto connect`.
#[derive(Deserialize)]
pub(super) struct Connect {
    curves: Vec<Curve>,
    triangle: Option<Vec<Blend>>,
    #[serde(default)]
    triangle_aligned: bool,
    #[serde(default)]
    remarks: Vec<String>,
}

#[derive(Deserialize)]
struct Curve {
    /// The adapters' numbers.
    ends: [usize; 2],
    join: String,
    aligned: bool,
    points: Vec<Blend>,
    loss_barrier: f64,
    accuracy_barrier: f64,
}

#[derive(Deserialize)]
struct Blend {
    weights: Vec<f64>,
    loss: f64,
    accuracy: f64,
}

impl Blend {
    /// The second adapter's weight.
    fn lambda(&self) -> f64 {
        self.weights.get(1).copied().unwrap_or(0.0)
    }
}

impl Curve {
    /// "factors A, B (fusion)".
    fn path(&self) -> &'static str {
        match (self.join.as_str(), self.aligned) {
            ("mixture", _) => "weight changes ΔW (mixture)",
            (_, true) => "factors A, B after alignment (fusion)",
            (_, false) => "factors A, B (fusion)",
        }
    }
}

pub(super) fn section(result: &Connect, origin: &Origin, id: &str) -> Section {
    let names = origin.names();
    let name = |end: usize| {
        names
            .get(end)
            .cloned()
            .unwrap_or_else(|| format!("adapter {}", end + 1))
    };
    let pair = |curve: &Curve| format!("{} → {}", name(curve.ends[0]), name(curve.ends[1]));
    let mut body = html::paragraph("headline", &headline(result, &pair));
    body += &html::paragraph("note", &origin.note());
    let mut paths: Vec<&str> = Vec::new();
    for curve in &result.curves {
        if !paths.contains(&curve.path()) {
            paths.push(curve.path());
        }
    }
    // One pair's paths side by side; of three adapters, the pairs side by side.
    let several = result
        .curves
        .iter()
        .any(|curve| curve.ends != result.curves[0].ends);
    let groups: Vec<Option<&str>> = match several {
        true => paths.iter().map(|path| Some(*path)).collect(),
        false => vec![None],
    };
    for (number, group) in groups.iter().enumerate() {
        let own: Vec<&Curve> = result
            .curves
            .iter()
            .filter(|curve| group.is_none_or(|path| curve.path() == path))
            .collect();
        let along = group.map_or(String::new(), |path| format!(" along {path}"));
        for (y, scale, of) in [
            ("loss", 1.0, (|blend| blend.loss) as fn(&Blend) -> f64),
            ("accuracy, %", 100.0, |blend| blend.accuracy),
        ] {
            let what = y.split(',').next().unwrap_or(y);
            let series = own.iter().enumerate().map(|(line, curve)| Series {
                label: if several {
                    pair(curve)
                } else {
                    curve.path().to_owned()
                },
                look: Look { line, mark: line },
                points: curve
                    .points
                    .iter()
                    .map(|blend| (blend.lambda(), scale * of(blend)))
                    .collect(),
                raw: vec![],
                bars: vec![],
            });
            body += &LineChart {
                id: &format!("{id}-{what}-{number}"),
                title: &format!("{what}{along}"),
                desc: &format!("The {what} on the straight path between two adapters{along}."),
                x: "λ",
                y,
                series: series.collect(),
            }
            .draw();
        }
    }
    let row = |curve: &Curve| {
        let at = |lambda: f64| {
            let near = |blend: &&Blend| (blend.lambda() - lambda).abs() < 1e-9;
            curve
                .points
                .iter()
                .find(near)
                .map_or("–".to_owned(), |blend| percent(blend.accuracy))
        };
        vec![
            format!("{}, {}", pair(curve), curve.path()),
            at(0.0),
            at(0.5),
            at(1.0),
            format!("{:.1} points", 100.0 * curve.accuracy_barrier),
            format!("{:.4}", curve.loss_barrier),
        ]
    };
    let head = [
        "Path",
        "Accuracy at 0",
        "at ½",
        "at 1",
        "Accuracy barrier",
        "Loss barrier",
    ];
    let table: Vec<Vec<String>> = result.curves.iter().map(row).collect();
    body += &html::table(
        "results",
        "A barrier is how far the path lies at most on the worse side of the straight line between its ends.",
        &head.map(str::to_owned),
        &table,
    );
    if let Some(triangle) = &result.triangle {
        body += &map(triangle, result.triangle_aligned, &names, id);
    }
    for remark in &result.remarks {
        body += &html::paragraph("note", remark);
    }
    Section {
        title: format!("The paths between {}", names.join(", ")),
        body,
    }
}

fn headline(result: &Connect, pair: &dyn Fn(&Curve) -> String) -> String {
    let one = |curve: &Curve| {
        format!(
            "{} along {}: {:.1} points of accuracy, {:.4} of loss.",
            pair(curve),
            curve.path(),
            100.0 * curve.accuracy_barrier,
            curve.loss_barrier
        )
    };
    let all: Vec<String> = match result.curves.len() {
        0..=3 => result.curves.iter().map(one).collect(),
        _ => {
            let by = |a: &&Curve, b: &&Curve| a.accuracy_barrier.total_cmp(&b.accuracy_barrier);
            let highest = result.curves.iter().max_by(by).map(one);
            vec![format!("highest, {}", highest.unwrap_or_default())]
        }
    };
    format!("Barriers: {}", all.join(" "))
}

/// The accuracy of the means of three adapters.
fn map(blends: &[Blend], aligned: bool, names: &[String], id: &str) -> String {
    let corners = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.75f64.sqrt()]];
    let at = |weights: &[f64]| {
        let mut place = [0.0; 2];
        for (weight, corner) in weights.iter().zip(corners) {
            place = [place[0] + weight * corner[0], place[1] + weight * corner[1]];
        }
        place
    };
    let accuracies = || blends.iter().map(|blend| blend.accuracy);
    let low = accuracies().fold(f64::INFINITY, f64::min);
    let high = accuracies().fold(f64::NEG_INFINITY, f64::max);
    let place = |blend: &Blend| {
        let [x, y] = at(&blend.weights);
        Place {
            x,
            y,
            text: format!("{:.1}", 100.0 * blend.accuracy),
            shade: if high > low {
                (blend.accuracy - low) / (high - low)
            } else {
                0.0
            },
            strong: blend.accuracy == high,
        }
    };
    let steps = (((8 * blends.len() + 1) as f64).sqrt() - 3.0) / 2.0;
    let note = |(corner, name): ([f64; 2], &String)| {
        let up = if corner[1] > 0.0 { 1.0 } else { -1.0 };
        (
            corner[0],
            corner[1] + up * 0.75 / steps.max(1.0),
            name.clone(),
        )
    };
    let factors = if aligned {
        "factors after alignment"
    } else {
        "factors"
    };
    Places {
        id: &format!("{id}-triangle"),
        title: "Accuracy of means of three adapters",
        desc: &format!(
            "Accuracy in % of weighted means of three adapters' {factors}; each corner is one of them. The darker, the better; thick outlines are best."
        ),
        radius: (300.0 / steps.max(1.0)).clamp(12.0, 22.0),
        places: blends.iter().map(place).collect(),
        notes: corners.into_iter().zip(names).map(note).collect(),
    }
    .draw()
}
