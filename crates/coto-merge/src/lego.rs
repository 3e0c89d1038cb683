use coto_coalition::{Stream, stream};
use coto_lowrank::LowRank;
use coto_lowrank::faer::Mat;
use rand::RngExt;

use crate::{Error, Method, Parts};

/// LoRA-LEGO (arXiv 2409.16167): the rank-one terms of all adapters, clustered, and one term for each cluster.
///
/// A unit is a row of A and the column of B that it meets, brought to equal norms, so that it does not matter how scale is shared
/// between them. k-means gathers the units of all adapters into `rank` clusters; a unit and its negative are the same term, so
/// a unit joins with whichever sign is nearer. A cluster's term is the weighted mean of its units at the weighted mean of their
/// norms (averaging shortens), and the whole is times √(r̄ / rank), with r̄ the adapters' mean rank, so that its size does not
/// depend on the number of clusters. Weights count against each other, as in a mean, and must not be negative.
///
/// The paper's constants were not read from its text: the norms and the root are our reading.
#[derive(Debug, Clone, Copy)]
pub struct Lego {
    /// The number of clusters; without it the largest rank of the module's parts.
    pub rank: Option<usize>,
}

impl Method for Lego {
    fn merge(&self, parts: &Parts) -> Result<LowRank, Error> {
        if let Some(part) = parts.parts.iter().find(|part| part.weight < 0.0) {
            let weight = part.weight;
            return Err(parts.refused(format!(
                "LoRA-LEGO takes means, for which {weight} is no weight"
            )));
        }
        let ranks = || parts.parts.iter().map(|part| part.update.rank());
        let clusters = self.rank.or(ranks().max()).unwrap_or_default();
        if clusters == 0 {
            return Err(parts.refused("LoRA-LEGO needs at least 1 cluster"));
        }
        let updates: Vec<_> = parts.parts.iter().map(|part| (&part.update, 1.0)).collect();
        let units = balanced(&LowRank::sum(&updates)?)?;
        let each = parts.parts.iter();
        let weights: Vec<f64> = each
            .flat_map(|part| vec![part.weight; part.update.rank()])
            .collect();
        let gram = units.a() * units.a().transpose() + units.b().transpose() * units.b();
        let found = cluster(&gram, &weights, clusters, &mut stream(parts.seed, "lego"));
        let mean_rank = ranks().sum::<usize>() as f64 / parts.parts.len() as f64;
        // Both factors grow with the root of a factor of their product.
        let expansion = (mean_rank / found.len() as f64).powf(0.25);
        let mix = Mat::from_fn(found.len(), weights.len(), |c, unit| {
            let members = found[c].iter();
            let own = members.filter(|(member, _)| *member == unit);
            own.map(|(_, sign)| sign * weights[unit]).sum::<f64>()
        });
        let scales: Vec<f64> = found
            .iter()
            .enumerate()
            .map(|(c, members)| {
                let norms = members
                    .iter()
                    .map(|&(unit, _)| weights[unit] * gram[(unit, unit)].max(0.0).sqrt());
                let total: f64 = members.iter().map(|&(unit, _)| weights[unit]).sum();
                let row = mix.row(c);
                let length = (row * &gram * row.transpose()).max(0.0).sqrt();
                if length * total > 0.0 {
                    expansion * norms.sum::<f64>() / total / length
                } else {
                    0.0
                }
            })
            .collect();
        let mix = Mat::from_fn(mix.nrows(), mix.ncols(), |c, unit| {
            scales[c] * mix[(c, unit)]
        });
        Ok(LowRank::new(&mix * units.a(), units.b() * mix.transpose())?)
    }
}

/// The same update with every row of A as long as the column of B that it meets.
fn balanced(update: &LowRank) -> Result<LowRank, coto_lowrank::Error> {
    let (a, b) = (update.a(), update.b());
    let to: Vec<f64> = (0..update.rank())
        .map(|k| match (a.row(k).norm_l2(), b.col(k).norm_l2()) {
            (x, y) if x > 0.0 && y > 0.0 => (y / x).sqrt(),
            _ => 0.0,
        })
        .collect();
    let back = |k: usize| if to[k] > 0.0 { 1.0 / to[k] } else { 0.0 };
    LowRank::new(
        Mat::from_fn(a.nrows(), a.ncols(), |k, j| to[k] * a[(k, j)]),
        Mat::from_fn(b.nrows(), b.ncols(), |i, k| back(k) * b[(i, k)]),
    )
}

/// A cluster's units, each with its sign.
type Cluster = Vec<(usize, f64)>;

/// k-means of vectors known by their inner products, up to their signs, started by k-means++ (Arthur and Vassilvitskii, SODA
/// 2007). Clusters that end up empty are left out. No more clusters than units.
fn cluster(gram: &Mat<f64>, weights: &[f64], clusters: usize, stream: &mut Stream) -> Vec<Cluster> {
    let units = gram.nrows();
    if clusters >= units {
        return (0..units).map(|unit| vec![(unit, 1.0)]).collect();
    }
    let mut found: Vec<Cluster> = seeds(gram, clusters, stream)
        .into_iter()
        .map(|unit| vec![(unit, 1.0)])
        .collect();
    for _ in 0..100 {
        let next = assigned(gram, weights, &found);
        if next == found {
            break;
        }
        found = next;
    }
    found
}

fn seeds(gram: &Mat<f64>, clusters: usize, stream: &mut Stream) -> Vec<usize> {
    let units = gram.nrows();
    let mut chosen = vec![stream.random_range(0..units)];
    while chosen.len() < clusters {
        let apart = |unit: usize| {
            let to = |&seed: &usize| {
                gram[(unit, unit)] + gram[(seed, seed)] - 2.0 * gram[(unit, seed)].abs()
            };
            chosen.iter().map(to).fold(f64::INFINITY, f64::min).max(0.0)
        };
        let apart: Vec<f64> = (0..units).map(apart).collect();
        let mut left = stream.random::<f64>() * apart.iter().sum::<f64>();
        let drawn = apart.iter().position(|distance| {
            left -= distance;
            *distance > 0.0 && left <= 0.0
        });
        // Where all units are seeds or their equals, or rounding left some of the draw, the farthest one.
        let farthest = (0..units).max_by(|&i, &j| apart[i].total_cmp(&apart[j]));
        chosen.extend(drawn.or(farthest));
    }
    chosen
}

/// Every unit with the nearest of the clusters' means.
fn assigned(gram: &Mat<f64>, weights: &[f64], found: &[Cluster]) -> Vec<Cluster> {
    let means: Vec<(Vec<f64>, f64)> = found
        .iter()
        .map(|members| mean(gram, weights, members))
        .collect();
    let mut next = vec![Cluster::new(); found.len()];
    for unit in 0..gram.nrows() {
        let apart = |(to, square): &(Vec<f64>, f64)| square - 2.0 * to[unit].abs();
        let near = (0..means.len()).min_by(|&i, &j| apart(&means[i]).total_cmp(&apart(&means[j])));
        if let Some(near) = near {
            next[near].push((unit, 1f64.copysign(means[near].0[unit])));
        }
    }
    next.retain(|members| !members.is_empty());
    next
}

/// A cluster's mean by its inner products: with every unit, and with itself.
fn mean(gram: &Mat<f64>, weights: &[f64], members: &Cluster) -> (Vec<f64>, f64) {
    let total: f64 = members.iter().map(|&(unit, _)| weights[unit]).sum();
    // Units without weight are no less near each other.
    let share = |unit: usize| {
        if total > 0.0 {
            weights[unit] / total
        } else {
            1.0 / members.len() as f64
        }
    };
    let with = |other: usize| -> f64 {
        let each = members.iter();
        each.map(|&(unit, sign)| sign * share(unit) * gram[(unit, other)])
            .sum()
    };
    let to: Vec<f64> = (0..gram.nrows()).map(with).collect();
    let square = members
        .iter()
        .map(|&(unit, sign)| sign * share(unit) * to[unit])
        .sum();
    (to, square)
}
