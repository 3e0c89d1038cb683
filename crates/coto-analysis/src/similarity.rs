use burn::linalg;
use burn::tensor::{Tensor, TensorData};
use coto_adapters::{Adapter, AdapterSet, Base};
use serde::Serialize;

use crate::Error;

/// How alike some adapters of one model are. Matrices are given row by row, an entry for each two adapters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similarity {
    /// ‖ΔW‖, over all modules together.
    pub norms: Vec<f64>,
    /// The cosine of the flattened ΔW; not a number for an adapter that changes nothing.
    pub cosine: Vec<Vec<f64>>,
    /// The Euclidean distance of the flattened ΔW.
    pub distance: Vec<Vec<f64>>,
    /// The spaces that A reads.
    pub inputs: Subspaces,
    /// The spaces that B writes.
    pub outputs: Subspaces,
    /// The adapters on a plane, by classical multidimensional scaling (Torgerson, Psychometrika 17, 1952) of the distances.
    pub map: Vec<[f64; 2]>,
    /// The share of the squared distances that the plane shows.
    pub explained: f64,
}

/// How the low-rank spaces of each two adapters lie to one another, on average over modules.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subspaces {
    /// The mean squared cosine of the principal angles (Hu et al., arXiv 2106.09685, §7.2): 1 for one space in the other, and r/d
    /// to be expected of two at random.
    pub overlap: Vec<Vec<f64>>,
    /// The mean principal angle, in degrees.
    pub angle: Vec<Vec<f64>>,
}

/// Compares adapters of one model, on their factors where ΔW is their product, else on ΔW module by module.
///
/// # Errors
/// [`Error::Modules`] for adapters of different modules.
///
/// # Panics
/// If there is no adapter.
pub fn similarity(base: &impl Base, sets: &[&AdapterSet]) -> Result<Similarity, Error> {
    for (index, set) in sets.iter().enumerate() {
        if set.modules() != sets[0].modules() {
            let own = set.modules().iter().map(|module| &module.path);
            let first = sets[0].modules().iter().map(|module| &module.path);
            let what = match own.zip(first).find(|(a, b)| a != b) {
                Some((a, b)) => format!("`{a}` against `{b}`"),
                None => format!(
                    "{} modules against {}",
                    set.modules().len(),
                    sets[0].modules().len()
                ),
            };
            return Err(Error::Modules { index, what });
        }
    }
    let gram = gram(base, sets);
    let norms: Vec<f64> = (0..sets.len())
        .map(|i| gram[i][i].max(0.0).sqrt())
        .collect();
    let each = |of: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
        let row = |i| (0..sets.len()).map(|j| of(i, j)).collect();
        (0..sets.len()).map(row).collect()
    };
    let (map, explained) = scaled(&gram);
    Ok(Similarity {
        cosine: each(&|i, j| match i == j && norms[i] > 0.0 {
            true => 1.0,
            false => gram[i][j] / (norms[i] * norms[j]),
        }),
        distance: each(&|i, j| (gram[i][i] + gram[j][j] - 2.0 * gram[i][j]).max(0.0).sqrt()),
        inputs: subspaces(sets, |adapter| adapter.low_rank().0),
        outputs: subspaces(sets, |adapter| adapter.low_rank().1.transpose()),
        norms,
        map,
        explained,
    })
}

/// The inner products of the flattened ΔW.
fn gram(base: &impl Base, sets: &[&AdapterSet]) -> Vec<Vec<f64>> {
    let mut gram = vec![vec![0.0; sets.len()]; sets.len()];
    for module in 0..sets[0].adapters().len() {
        let own: Vec<&Adapter> = sets.iter().map(|set| &set.adapters()[module]).collect();
        let linear = base.linear(own[0].module());
        let low = own
            .iter()
            .all(|a| matches!(a.variant().name(), "lora" | "rslora"));
        let deltas: Vec<Tensor<2>> = match low {
            true => Vec::new(),
            false => own.iter().map(|adapter| adapter.delta(linear)).collect(),
        };
        for i in 0..own.len() {
            for j in i..own.len() {
                let product = match low {
                    true => on_factors(own[i], own[j]),
                    false => sum(deltas[i].clone() * deltas[j].clone()),
                };
                gram[i][j] += product;
                gram[j][i] = gram[i][j];
            }
        }
    }
    gram
}

/// ⟨s₁A₁B₁, s₂A₂B₂⟩ = s₁s₂ Σ (A₁ᵀA₂) ⊙ (B₁B₂ᵀ).
fn on_factors(first: &Adapter, second: &Adapter) -> f64 {
    let ((a1, b1), (a2, b2)) = (first.low_rank(), second.low_rank());
    let product = a1.transpose().matmul(a2) * b1.matmul(b2.transpose());
    first.scale() * second.scale() * sum(product)
}

fn sum(tensor: Tensor<2>) -> f64 {
    tensor.into_data().iter::<f32>().map(f64::from).sum()
}

/// The principal angles between the columns' spaces of `side`, [d, r].
fn subspaces(sets: &[&AdapterSet], side: impl Fn(&Adapter) -> Tensor<2>) -> Subspaces {
    let n = sets.len();
    let (mut overlap, mut angle) = (vec![vec![0.0; n]; n], vec![vec![0.0; n]; n]);
    (0..n).for_each(|i| overlap[i][i] = 1.0);
    let modules = sets[0].adapters().len();
    for module in 0..modules {
        let basis = |set: &&AdapterSet| linalg::qr(side(&set.adapters()[module]), true).0;
        let bases: Vec<Tensor<2>> = sets.iter().map(basis).collect();
        for i in 0..n {
            for j in i + 1..n {
                let cosines = cosines(&bases[i], &bases[j]);
                let count = cosines.len() as f64;
                let squares: f64 = cosines.iter().map(|c| c * c).sum();
                let angles: f64 = cosines.iter().map(|c| c.acos().to_degrees()).sum();
                overlap[i][j] += squares / count / modules as f64;
                angle[i][j] += angles / count / modules as f64;
                (overlap[j][i], angle[j][i]) = (overlap[i][j], angle[i][j]);
            }
        }
    }
    Subspaces { overlap, angle }
}

/// The cosines of the principal angles between two spaces, from orthonormal bases of them.
fn cosines(first: &Tensor<2>, second: &Tensor<2>) -> Vec<f64> {
    let product = first.clone().transpose().matmul(second.clone());
    let (_, singular, _) = linalg::svd::<2, 1>(product, ITERATIONS);
    let singular = singular.into_data();
    singular
        .iter::<f32>()
        .map(|s| f64::from(s).clamp(0.0, 1.0))
        .collect()
}

/// The most iterations for each singular value.
const ITERATIONS: usize = 60;

/// Places on a plane whose distances come near those of the inner products, and the share of the squares that they show.
fn scaled(gram: &[Vec<f64>]) -> (Vec<[f64; 2]>, f64) {
    let n = gram.len();
    let mean = |row: &Vec<f64>| row.iter().sum::<f64>() / n as f64;
    let means: Vec<f64> = gram.iter().map(mean).collect();
    let all = means.iter().sum::<f64>() / n as f64;
    let size = (0..n)
        .map(|i| gram[i][i] - 2.0 * means[i] + all)
        .sum::<f64>();
    if n < 2 || size <= 0.0 {
        return (vec![[0.0; 2]; n], 1.0);
    }
    let centred = |k: usize| {
        let (i, j) = (k / n, k % n);
        ((gram[i][j] - means[i] - means[j] + all) / size) as f32
    };
    let centred: Vec<f32> = (0..n * n).map(centred).collect();
    let centred = Tensor::<2>::from_data(TensorData::new(centred, [n, n]), &Default::default());
    // Symmetric and without negative eigenvalues, it has them as its singular values.
    let (u, s, _) = linalg::svd::<2, 1>(centred, ITERATIONS);
    let (u, s) = (u.into_data(), s.into_data());
    let u: Vec<f32> = u.iter().collect();
    let s: Vec<f64> = s.iter::<f32>().map(f64::from).collect();
    let axis = |i: usize, k: usize| f64::from(u[i * n + k]) * (s[k] * size).sqrt();
    let places = (0..n).map(|i| [axis(i, 0), axis(i, 1)]).collect();
    (places, (s[0] + s[1]) / s.iter().sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_a_plane_come_back_up_to_turning() {
        let places: [[f64; 2]; 4] = [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [5.0, 5.0]];
        let gram: Vec<Vec<f64>> = places
            .iter()
            .map(|a| places.iter().map(|b| a[0] * b[0] + a[1] * b[1]).collect())
            .collect();
        let (found, explained) = scaled(&gram);
        assert!((explained - 1.0).abs() < 1e-5);
        let distance =
            |p: &[[f64; 2]], i: usize, j: usize| (p[i][0] - p[j][0]).hypot(p[i][1] - p[j][1]);
        for i in 0..4 {
            for j in 0..4 {
                assert!((distance(&found, i, j) - distance(&places, i, j)).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn the_angles_of_planes_in_space_are_the_principal_ones() {
        let device = Default::default();
        let tilt = 30f32.to_radians();
        let flat = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], &device);
        let tilted =
            Tensor::from_floats([[1.0, 0.0], [0.0, tilt.cos()], [0.0, tilt.sin()]], &device);
        let found: Vec<f64> = cosines(&flat, &tilted)
            .iter()
            .map(|c| c.acos().to_degrees())
            .collect();
        assert!(
            found[0].abs() < 0.1 && (found[1] - 30.0).abs() < 1e-3,
            "{found:?}"
        );
    }
}
