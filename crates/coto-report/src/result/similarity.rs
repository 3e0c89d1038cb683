use serde::Deserialize;

use super::{Origin, Section, decimals};
use crate::html;
use crate::svg::{Cell, Grid, Place, Places};
use crate::verdict::percent;

/// A number for each two adapters; none where it means nothing.
type Pairs = Vec<Vec<Option<f64>>>;

/// The result of `coto similarity`.
#[derive(Deserialize)]
pub(super) struct Similarity {
    norms: Vec<f64>,
    cosine: Pairs,
    distance: Pairs,
    inputs: Subspaces,
    outputs: Subspaces,
    map: Vec<[f64; 2]>,
    explained: f64,
}

#[derive(Deserialize)]
struct Subspaces {
    overlap: Pairs,
    angle: Pairs,
}

pub(super) fn section(result: &Similarity, origin: &Origin, id: &str) -> Section {
    let names = origin.names();
    let mut body = html::paragraph("headline", &headline(result, &names));
    body += &html::paragraph("note", &origin.note());
    let number = |i: usize| (i + 1).to_string();
    let row = |(i, name): (usize, &String)| {
        vec![
            number(i),
            name.clone(),
            format!("{:.3}", result.norms.get(i).copied().unwrap_or(f64::NAN)),
        ]
    };
    let listed: Vec<Vec<String>> = names.iter().enumerate().map(row).collect();
    let head = ["", "Adapter", "‖ΔW‖"].map(str::to_owned);
    body += &html::table("results", "The adapters.", &head, &listed);
    let place = |(i, at): (usize, &[f64; 2])| Place {
        x: at[0],
        y: at[1],
        text: number(i),
        shade: 0.2,
        strong: false,
    };
    body += &Places {
        id: &format!("{id}-map"),
        title: "Map of the adapters",
        desc: &format!(
            "The adapters on a plane, so that distances are those of ΔW as nearly as can be: it shows {} of their squares.",
            percent(result.explained)
        ),
        radius: 12.0,
        places: result.map.iter().enumerate().map(place).collect(),
        notes: vec![],
    }
    .draw();
    for (name, title, desc, pairs) in [
        (
            "cosine",
            "Cosine of ΔW",
            "The cosine between the weight changes of each two adapters, all modules flattened into one vector.",
            &result.cosine,
        ),
        (
            "distance",
            "Distance of ΔW",
            "The Euclidean distance between the weight changes of each two adapters.",
            &result.distance,
        ),
        (
            "inputs",
            "Angle of the spaces that A reads",
            "The mean principal angle between the columns' spaces of A, in degrees, over all modules.",
            &result.inputs.angle,
        ),
        (
            "outputs",
            "Angle of the spaces that B writes",
            "The mean principal angle between the rows' spaces of B, in degrees, over all modules.",
            &result.outputs.angle,
        ),
        (
            "input-overlap",
            "Overlap of the spaces that A reads",
            "The mean squared cosine of the principal angles: 1 for the same space.",
            &result.inputs.overlap,
        ),
        (
            "output-overlap",
            "Overlap of the spaces that B writes",
            "The mean squared cosine of the principal angles: 1 for the same space.",
            &result.outputs.overlap,
        ),
    ] {
        body += &grid(&format!("{id}-{name}"), title, desc, pairs);
    }
    Section {
        title: format!("How alike {} adapters are", names.len()),
        body,
    }
}

fn grid(id: &str, title: &str, desc: &str, pairs: &Pairs) -> String {
    let all = || pairs.iter().flatten().flatten();
    let digits = decimals(all().fold(0.0, |most, x| f64::max(most, x.abs()))).min(4);
    let cell = |value: &Option<f64>| {
        value.map(|value| Cell {
            value,
            text: format!("{value:.digits$}").replace('-', "−"),
            note: String::new(),
        })
    };
    let row = |(i, row): (usize, &Vec<Option<f64>>)| {
        ((i + 1).to_string(), row.iter().map(cell).collect())
    };
    Grid {
        id,
        title,
        desc: &format!("{title}. {desc}"),
        columns: (1..=pairs.len()).map(|i| i.to_string()).collect(),
        rows: pairs.iter().enumerate().map(row).collect(),
    }
    .draw()
}

fn headline(result: &Similarity, names: &[String]) -> String {
    let mut pairs = Vec::new();
    for (i, row) in result.cosine.iter().enumerate() {
        pairs.extend(
            row.iter()
                .enumerate()
                .skip(i + 1)
                .filter_map(|(j, c)| Some((i, j, (*c)?))),
        );
    }
    let by = |a: &&(usize, usize, f64), b: &&(usize, usize, f64)| a.2.total_cmp(&b.2);
    let name = |i: usize| names.get(i).map_or("?", String::as_str);
    let told =
        |&(i, j, c): &(usize, usize, f64)| format!("{} and {} (cosine {c:.3})", name(i), name(j));
    match (pairs.iter().max_by(by), pairs.iter().min_by(by)) {
        (Some(most), Some(least)) if pairs.len() > 1 => {
            format!("Most alike are {}, least {}.", told(most), told(least))
        }
        (Some(only), _) => format!("{}.", told(only)),
        _ => String::new(),
    }
}
