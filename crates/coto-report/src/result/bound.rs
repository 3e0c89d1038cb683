use serde::Deserialize;

use super::shapley::LayerRuns;
use super::{Origin, Section, decimals, rows};
use crate::html;
use crate::svg::{LineChart, Look, Series};

/// The result of `coto bound`.
#[derive(Deserialize)]
pub(super) struct Bound {
    players: Vec<String>,
    sides: Vec<Sides>,
    layer_runs: LayerRuns,
    seconds: f64,
}

#[derive(Deserialize)]
struct Sides {
    p: f64,
    expected_loss: Measured,
    loss_of_means: Measured,
    gap: Measured,
}

#[derive(Deserialize, Clone, Copy)]
struct Measured {
    mean: f64,
    standard_error: f64,
}

pub(super) fn section(result: &Bound, origin: &Origin, id: &str) -> Section {
    let mut body = html::paragraph("headline", &headline(result));
    body += &html::paragraph("note", &origin.note());
    let series = |label: &str, line: usize, of: &dyn Fn(&Sides) -> Measured| Series {
        label: label.to_owned(),
        look: Look { line, mark: line },
        points: result
            .sides
            .iter()
            .map(|side| (side.p, of(side).mean))
            .collect(),
        raw: vec![],
        bars: result
            .sides
            .iter()
            .map(|side| {
                let Measured {
                    mean,
                    standard_error,
                } = of(side);
                (side.p, mean - standard_error, mean + standard_error)
            })
            .collect(),
    };
    body += &LineChart {
        id: &format!("{id}-sides"),
        title: "Both sides of Theorem 3.1",
        desc: "The mean loss over coalitions, and the weighted losses of the mean predictions of each size, against the rate at which each player is on; whiskers are one standard error.",
        x: "rate p",
        y: "loss",
        series: vec![
            series("E[ℓ(ŷ)], the mean loss", 0, &|side| side.expected_loss),
            series("Σ w ℓ(ỹ), the losses of mean predictions", 1, &|side| side.loss_of_means),
        ],
    }
    .draw();
    body += &LineChart {
        id: &format!("{id}-gap"),
        title: "The gap",
        desc: "The first side less the second, which the theorem says is never below zero; whiskers are one standard error.",
        x: "rate p",
        y: "gap of the loss",
        series: vec![series("", 0, &|side| side.gap)],
    }
    .draw();
    let most = result
        .sides
        .iter()
        .map(|side| side.expected_loss.mean)
        .fold(0.0, f64::max);
    let digits = decimals(most) + 2;
    let row = |side: &Sides| {
        let cell = |m: Measured| format!("{:.digits$} ± {:.digits$}", m.mean, m.standard_error);
        let cells = [side.expected_loss, side.loss_of_means, side.gap].map(cell);
        [vec![format!("{:.2}", side.p)], cells.to_vec()].concat()
    };
    let head = ["Rate p", "Mean loss", "Losses of mean predictions", "Gap"].map(str::to_owned);
    let table: Vec<Vec<String>> = result.sides.iter().map(row).collect();
    body += &html::table("results", "Means and standard errors.", &head, &table);
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
        title: format!("Theorem 3.1 on {}", origin.names().join(", ")),
        body,
    }
}

fn headline(result: &Bound) -> String {
    let widest = result
        .sides
        .iter()
        .max_by(|a, b| a.gap.mean.total_cmp(&b.gap.mean));
    widest.map_or(String::new(), |side| {
        format!(
            "The gap between the mean loss over coalitions and the losses of mean predictions is widest at p = {:.2}: {:.4} ± {:.4} of a loss of {:.4}.",
            side.p, side.gap.mean, side.gap.standard_error, side.expected_loss.mean
        )
    })
}
