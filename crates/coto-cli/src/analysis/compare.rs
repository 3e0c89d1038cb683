//! The verbs that compare adapters.

use anyhow::Result;
use coto_adapters::AdapterSet;
use coto_analysis::{Curve, End, Join, align, blend, weights};
use serde_json::json;

use super::{ConnectArgs, SimilarityArgs, Subject, merged, publish};

pub fn connect(args: &ConnectArgs) -> Result<()> {
    let judging = &args.judging;
    let subject = Subject::open(&args.folders, &judging.setting)?;
    let evaluation = subject.evaluation(judging)?;
    let ends = ends(&subject)?;
    let mut curves = Vec::new();
    let mut remarks = Vec::new();
    for (i, j) in [(0, 1), (1, 2), (0, 2)] {
        if j >= ends.len() {
            continue;
        }
        let pair = [ends[i].clone(), ends[j].clone()];
        let mut paths = vec![(Join::Fusion, false), (Join::Mixture, false)];
        if args.align {
            paths.push((Join::Fusion, true));
        }
        for (join, aligned) in paths {
            let pair = match aligned {
                true => turned(&subject, &pair)?,
                false => pair.to_vec(),
            };
            match coto_analysis::connect(&evaluation, &pair, join, aligned, args.steps) {
                Ok(curve) => curves.push(([i, j], curve)),
                // There is fusion still.
                Err(error @ coto_analysis::Error::Merge(_)) if join == Join::Mixture => {
                    remarks.push(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let triangle = match ends.len() {
        3 => {
            let ends = if args.align {
                turned(&subject, &ends)?
            } else {
                ends
            };
            let all = weights(3, args.steps)?;
            let points = all
                .iter()
                .map(|weights| blend(&evaluation, &ends, weights, Join::Fusion));
            Some(points.collect::<Result<Vec<_>, _>>()?)
        }
        _ => None,
    };
    let with_ends =
        |(ends, curve): &([usize; 2], Curve)| merged(json!({"ends": ends}), json!(curve));
    let result = merged(
        subject.judged("connect", &evaluation, judging),
        json!({
            "curves": curves.iter().map(with_ends).collect::<Vec<_>>(),
            "triangle": triangle,
            "triangle_aligned": args.align,
            "remarks": remarks,
        }),
    );
    let print = || {
        curves.iter().for_each(print_curve);
        remarks
            .iter()
            .for_each(|remark| println!("note: no mixture: {remark}"));
    };
    publish(
        &args.folders[0],
        "connect",
        &judging.setting,
        &result,
        print,
    )
}

/// Each folder's adapters, and its run's readout where it lies in one.
fn ends(subject: &Subject) -> Result<Vec<End>> {
    let end = |i: usize| -> Result<End> {
        Ok(End {
            adapters: subject.adapters(i)?,
            readout: match &subject.places[i].run {
                Some(run) => subject.run.readout_of(run)?,
                None => subject.run.readout().clone(),
            },
        })
    };
    (0..subject.places.len()).map(end).collect()
}

/// The ends, all but the first aligned to it.
fn turned(subject: &Subject, ends: &[End]) -> Result<Vec<End>> {
    let sets: Vec<&AdapterSet> = ends.iter().map(|end| &end.adapters).collect();
    let turned = align(subject.run.model(), &sets)?.into_iter().zip(ends);
    let end = |(adapters, end): (AdapterSet, &End)| End {
        adapters,
        readout: end.readout.clone(),
    };
    Ok(turned.map(end).collect())
}

fn print_curve(([from, to], curve): &([usize; 2], Curve)) {
    let name = serde_json::to_value(curve.join).ok();
    println!(
        "{} → {} by {}{}: barrier {:.4} of the loss, {:.4} of the accuracy",
        from + 1,
        to + 1,
        name.as_ref().and_then(|name| name.as_str()).unwrap_or(""),
        if curve.aligned { ", aligned" } else { "" },
        curve.loss_barrier,
        curve.accuracy_barrier
    );
    for point in &curve.points {
        println!(
            "  λ {:.2}  loss {:.4}  accuracy {:.4}",
            point.weights[1], point.means.loss, point.means.accuracy
        );
    }
}

pub fn similarity(args: &SimilarityArgs) -> Result<()> {
    let subject = Subject::open(&args.folders, &args.setting)?;
    let sets = (0..args.folders.len()).map(|i| subject.adapters(i));
    let sets = sets.collect::<Result<Vec<AdapterSet>>>()?;
    let sets: Vec<&AdapterSet> = sets.iter().collect();
    let found = coto_analysis::similarity(subject.run.model(), &sets)?;
    let result = merged(subject.origin("similarity"), json!(found));
    let print = || {
        let table = |name: &str, rows: &[Vec<f64>]| {
            println!("{name}");
            for row in rows {
                let cells: Vec<String> = row.iter().map(|x| format!("{x:>9.4}")).collect();
                println!("{}", cells.join(""));
            }
        };
        table("cosine of ΔW", &found.cosine);
        table("distance of ΔW", &found.distance);
        table("angle of A's spaces, degrees", &found.inputs.angle);
        table("angle of B's spaces, degrees", &found.outputs.angle);
    };
    publish(
        &args.folders[0],
        "similarity",
        &args.setting,
        &result,
        print,
    )
}
