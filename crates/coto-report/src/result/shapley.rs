use serde::Deserialize;

use super::{Origin, Section, decimals, rows};
use crate::html;
use crate::svg::{Bar, Bars, Cell, Grid};
use crate::verdict::percent;

/// The result of `coto shapley`.
#[derive(Deserialize)]
pub(super) struct Shapley {
    value: String,
    empty: f64,
    grand: f64,
    method: String,
    exact: bool,
    evaluations: u64,
    efficiency_residual: f64,
    players: Vec<Share>,
    layers: Vec<Layer>,
    evenness: Option<Evenness>,
    layer_runs: LayerRuns,
    seconds: f64,
}

#[derive(Deserialize)]
struct Share {
    player: String,
    modules: Vec<Module>,
    value: f64,
    interval: (f64, f64),
}

#[derive(Deserialize)]
struct Module {
    layer: Option<usize>,
    kind: String,
}

#[derive(Deserialize)]
struct Layer {
    layer: usize,
    value: f64,
}

#[derive(Deserialize)]
struct Evenness {
    variation: f64,
    entropy: f64,
    upper_third: f64,
}

#[derive(Deserialize)]
pub(super) struct LayerRuns {
    pub used: u64,
    pub naive: u64,
}

impl LayerRuns {
    /// "1,234 in place of …".
    pub fn text(&self) -> String {
        let share = self.naive as f64 / self.used.max(1) as f64;
        format!(
            "{} in place of {} ({share:.1} times fewer)",
            self.used, self.naive
        )
    }
}

pub(super) fn section(result: &Shapley, origin: &Origin, id: &str) -> Section {
    let what = match result.value.as_str() {
        "loss" => "loss (its sign turned)",
        "margin" => "logit margin",
        other => other,
    };
    let most = result
        .players
        .iter()
        .map(|share| share.value.abs())
        .fold(0.0, f64::max);
    let digits = decimals(most);
    let number = |value: f64| format!("{value:+.digits$}").replace('-', "−");
    let mut body = html::paragraph("headline", &headline(result, what));
    body += &html::paragraph("note", &origin.note());
    let unit = format!("Shapley value, in units of {what}");
    if let Some(grid) = grid(result, id, &number) {
        body += &grid;
    }
    let bars = result.players.iter().rev().map(|share| Bar {
        label: share.player.clone(),
        value: share.value,
        interval: (!result.exact).then_some(share.interval),
        text: number(share.value),
    });
    let mut desc = "The Shapley value of each player, the highest layer on top: its mean contribution over all orders in which players can be switched on.".to_owned();
    if !result.exact {
        desc += " Whiskers are 95 % confidence intervals.";
    }
    body += &Bars {
        id: &format!("{id}-players"),
        title: "Shapley values",
        desc: &desc,
        x: &unit,
        bars: bars.collect(),
    }
    .draw();
    if result.layers.len() < result.players.len() {
        let bars = result.layers.iter().rev().map(|layer| Bar {
            label: format!("layer {}", layer.layer),
            value: layer.value,
            interval: None,
            text: number(layer.value),
        });
        body += &Bars {
            id: &format!("{id}-layers"),
            title: "Shapley values by layer",
            desc: "The values of each layer's players together.",
            x: &unit,
            bars: bars.collect(),
        }
        .draw();
    }
    body += &html::table("settings", "How it was measured.", &[], &how(result, what));
    Section {
        title: format!("Shapley values of {}", origin.names().join(", ")),
        body,
    }
}

fn headline(result: &Shapley, what: &str) -> String {
    let digits = decimals(result.empty.abs().max(result.grand.abs()));
    let [empty, grand] = match result.value.as_str() {
        "accuracy" => [result.empty, result.grand].map(percent),
        "loss" => [-result.empty, -result.grand].map(|loss| format!("{loss:.digits$}")),
        _ => [result.empty, result.grand].map(|value| format!("{value:.digits$}")),
    };
    let name = if result.value == "loss" { "loss" } else { what };
    let mut out = format!(
        "The adapters take the {name} from {empty} (all off) to {grand} (all on); the Shapley values share out the difference."
    );
    if let Some(even) = &result.evenness {
        out += &format!(
            " Across layers their coefficient of variation is {:.2}; the upper third of the layers has {} of their magnitude.",
            even.variation,
            percent(even.upper_third)
        );
    }
    out
}

/// Layers × kinds, where every player is one module in a layer and there are several kinds.
fn grid(result: &Shapley, id: &str, number: &impl Fn(f64) -> String) -> Option<String> {
    let mut kinds: Vec<&str> = Vec::new();
    let mut layers: Vec<usize> = Vec::new();
    for share in &result.players {
        let [module] = share.modules.as_slice() else {
            return None;
        };
        layers.push(module.layer?);
        if !kinds.contains(&module.kind.as_str()) {
            kinds.push(&module.kind);
        }
    }
    if kinds.len() < 2 {
        return None;
    }
    layers.sort_unstable();
    layers.dedup();
    let cell = |layer: usize, kind: &str| {
        let own =
            |share: &&Share| share.modules[0].layer == Some(layer) && share.modules[0].kind == kind;
        let share = result.players.iter().find(own)?;
        let half = (share.interval.1 - share.interval.0) / 2.0;
        Some(Cell {
            value: share.value,
            text: number(share.value),
            note: match result.exact {
                true => String::new(),
                false => number(half).replace('+', "±"),
            },
        })
    };
    let row = |&layer: &usize| {
        let cells = kinds.iter().map(|kind| cell(layer, kind));
        (format!("layer {layer}"), cells.collect())
    };
    let drawn = Grid {
        id: &format!("{id}-grid"),
        title: "Shapley values, layers by modules",
        desc: "The Shapley value of each module, the highest layer on top. The darker, the greater in size; a dashed frame is below zero.",
        columns: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        rows: layers.iter().rev().map(row).collect(),
    };
    Some(drawn.draw())
}

fn how(result: &Shapley, what: &str) -> Vec<Vec<String>> {
    let mut pairs = vec![
        ("Value of a coalition", what.to_owned()),
        ("Method", result.method.clone()),
        ("Coalitions evaluated", result.evaluations.to_string()),
        ("Layer runs", result.layer_runs.text()),
        ("Seconds", format!("{:.1}", result.seconds)),
    ];
    if !result.exact {
        let residual = format!("{:.3e}", result.efficiency_residual);
        pairs.push(("Efficiency residual before correction", residual));
    }
    if let Some(even) = &result.evenness {
        pairs.push((
            "Coefficient of variation across layers",
            format!("{:.3}", even.variation),
        ));
        pairs.push((
            "Entropy across layers (1: even)",
            format!("{:.3}", even.entropy),
        ));
        pairs.push((
            "Share of the upper third of layers",
            percent(even.upper_third),
        ));
    }
    rows(&pairs)
}
