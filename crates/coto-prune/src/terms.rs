use std::collections::BTreeMap;

use coto_lowrank::faer::Mat;
use coto_lowrank::{LowRank, Matrix, PerFactor, Statistics};
use coto_peft::{Folder, HostTensor, Param, PeftType};

use crate::keep::{checked, resized};
use crate::ranks::{Reduced, Term, within};
use crate::{Error, factors};

/// Keeps the folder's own rank-one terms of the highest sensitivity, `total` of them over all modules: see
/// [`Ranks::Sensitivity`](crate::Ranks::Sensitivity).
pub(crate) fn reduce(
    folder: &Folder,
    total: usize,
    statistics: &BTreeMap<String, Statistics>,
) -> Result<(Folder, Vec<Reduced>), Error> {
    if folder.config.peft_type == PeftType::Hira {
        return Err(Error::Refused {
            method: "sensitivity",
            variant: "HiRA",
            reason: "its modules must all have one rank, since PEFT reads no rank_pattern of it",
        });
    }
    let modules = folder.modules()?;
    let mut terms = Vec::new();
    for (module, (path, tensors)) in modules.iter().enumerate() {
        let scores = scores(path, factors::of(&folder.config, tensors), statistics)?;
        let term = |(index, gain)| Term {
            module,
            index,
            gain,
            cost: 1,
        };
        terms.extend(scores.into_iter().enumerate().map(term));
    }
    let kept = within(terms, total, modules.len());
    let mut small = folder.clone();
    let (mut sizes, mut gone, mut report) = (Vec::new(), Vec::new(), Vec::new());
    for ((path, tensors), kept) in modules.iter().zip(&kept) {
        let [a, b] = factors::of(&folder.config, tensors);
        report.push(reduced(folder, path, [a, b], kept)?);
        if kept.is_empty() {
            gone.push(path.as_str());
            continue;
        }
        let share = kept.len() as f64 / a.shape[0] as f64;
        let share = if folder.config.use_rslora {
            share.sqrt()
        } else {
            share
        };
        sizes.push((
            path.as_str(),
            kept.len(),
            folder.config.alpha(path)? * share,
        ));
        small.insert(path, Param::LoraA, factors::rows(a, kept));
        small.insert(path, Param::LoraB, factors::columns(b, kept));
    }
    if sizes.is_empty() {
        return Err(Error::Nothing {
            by: format!("sensitivity:{total}"),
            of: format!("{} modules", modules.len()),
        });
    }
    small.config = resized(&folder.config, &sizes, gone.iter().copied());
    let stays = |key: &str| {
        key.parse()
            .is_ok_and(|key: coto_peft::ParamKey| !gone.contains(&key.module.as_str()))
    };
    small.tensors.retain(|key, _| stays(key));
    Ok((checked(small)?, report))
}

/// Σ |g · w| over row k of A and column k of B, for each k.
fn scores(
    path: &str,
    [a, b]: [&HostTensor; 2],
    statistics: &BTreeMap<String, Statistics>,
) -> Result<Vec<f64>, Error> {
    let gradients = statistics
        .get(path)
        .and_then(|found| found.gradients.as_ref());
    let PerFactor { a: of_a, b: of_b } = &gradients
        .ok_or_else(|| Error::NoStatistics {
            module: path.to_owned(),
            method: "sensitivity",
            needs: "the gradients' |g · w|",
        })?
        .sensitivity;
    for (what, found, tensor) in [
        ("a sensitivity of A", of_a, a),
        ("a sensitivity of B", of_b, b),
    ] {
        let found = [found.rows(), found.cols()];
        if found != tensor.shape[..] {
            return Err(Error::Statistics {
                module: path.to_owned(),
                what,
                found,
                expected: [tensor.shape[0], tensor.shape[1]],
            });
        }
    }
    let sum = |values: &mut dyn Iterator<Item = f32>| values.map(f64::from).sum::<f64>();
    let score = |k: usize| {
        let column = &mut (0..of_b.rows()).map(|i| of_b.row(i)[k]);
        sum(&mut of_a.row(k).iter().copied()) + sum(column)
    };
    let scores: Vec<f64> = (0..of_a.rows()).map(score).collect();
    match scores.iter().find(|score| !score.is_finite()) {
        Some(&value) => Err(Error::NotFinite {
            what: format!("a sensitivity of module `{path}`"),
            value,
        }),
        None => Ok(scores),
    }
}

/// What the terms that stay are of s B A, and how far from it.
fn reduced(
    folder: &Folder,
    path: &str,
    [a, b]: [&HostTensor; 2],
    kept: &[usize],
) -> Result<Reduced, Error> {
    let scale = folder.config.scaling(path)?;
    let whole = LowRank::of(&Matrix::read(a)?, &Matrix::read(b)?, scale)?;
    let norm = |terms: &[usize]| -> Result<f64, Error> {
        if terms.is_empty() {
            return Ok(0.0);
        }
        let (a, b) = (whole.a(), whole.b());
        let part = LowRank::new(
            Mat::from_fn(terms.len(), a.ncols(), |k, j| a[(terms[k], j)]),
            Mat::from_fn(b.nrows(), terms.len(), |i, k| b[(i, terms[k])]),
        )?;
        Ok(part.norm())
    };
    let gone: Vec<usize> = (0..whole.rank()).filter(|k| !kept.contains(k)).collect();
    let all = whole.norm();
    let (energy, error) = match all > 0.0 {
        true => ((norm(kept)? / all).powi(2), norm(&gone)? / all),
        false => (1.0, 0.0),
    };
    Ok(Reduced {
        module: path.to_owned(),
        before: whole.rank(),
        after: kept.len(),
        energy,
        error,
    })
}
