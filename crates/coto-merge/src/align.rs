use coto_lowrank::faer::{Mat, MatRef};
use coto_lowrank::{LowRank, Matrix};
use coto_peft::Folder;

use crate::fuse::corresponding;
use crate::{Error, Parts, Source};

/// LoRA Align (CopRA, arXiv 2410.22911): the factors of all parts turned near to the first part's. Every ΔW stays as it is, so
/// this matters only to methods that look at the factors.
///
/// With R orthogonal, (B R)(Rᵀ A) is B A. R is the orthogonal Procrustes solution that brings both factors near: the polar factor
/// of A A₁ᵀ + Bᵀ B₁, each product over the norms of its factors, so that it does not matter how scale is shared between A and B.
///
/// # Errors
/// [`Error::Refused`] for parts of different ranks, and for gradients, which are of the factors before they were turned.
pub fn align(parts: &mut Parts) -> Result<(), Error> {
    let ranks =
        |parts: &Parts| -> Vec<usize> { parts.parts.iter().map(|p| p.update.rank()).collect() };
    let all = ranks(parts);
    if all.iter().any(|rank| *rank != all[0]) {
        return Err(parts.refused(format!(
            "adapters are aligned by turning their factors onto each other, which needs one rank, and here are {all:?}"
        )));
    }
    let gradients = |part: &crate::Part| part.statistics.is_some_and(|s| s.gradients.is_some());
    if parts.parts.iter().any(gradients) {
        return Err(parts.refused(
            "the gradients are of the factors as they are, so a method that uses them cannot follow an alignment",
        ));
    }
    let Some((first, others)) = parts.parts.split_first_mut() else {
        return Err(Error::Empty);
    };
    for part in others {
        part.update = turned(&first.update, &part.update)?;
    }
    Ok(())
}

/// The adapters with their factors turned near to the first one's, as [`align()`] does it; all else stays. They may be of any one
/// variant, for DoRA's and HiRA's ΔW too depends on B A alone and not on how it is made.
///
/// # Errors
/// As [`fuse`](crate::fuse()), whatever the weights.
pub fn aligned(sources: &[Source]) -> Result<Vec<Folder>, Error> {
    let modules = corresponding(sources)?;
    let mut folders: Vec<Folder> = sources.iter().map(|source| source.folder.clone()).collect();
    for (folder, own) in folders.iter_mut().zip(&modules).skip(1) {
        let params = folder.config.peft_type.factors();
        for (path, tensors) in own {
            let [first, update] = [&modules[0][path], tensors].map(|tensors| {
                let [a, b] = params.map(|param| Matrix::read(tensors[&param]));
                LowRank::of(&a?, &b?, 1.0)
            });
            let near = turned(&first?, &update?)?;
            for (param, factor) in params.into_iter().zip([near.a(), near.b()]) {
                folder.insert(path, param, Matrix::rounded(factor).to_tensor()?);
            }
        }
    }
    Ok(folders)
}

fn turned(first: &LowRank, update: &LowRank) -> Result<LowRank, coto_lowrank::Error> {
    let mut near = over_norms(update.a(), first.a().transpose());
    near += over_norms(update.b().transpose(), first.b());
    let svd = near.thin_svd().map_err(|_| coto_lowrank::Error::Diverges {
        rows: near.nrows(),
        cols: near.ncols(),
    })?;
    let turn = svd.U() * svd.V().transpose();
    LowRank::new(turn.transpose() * update.a(), update.b() * &turn)
}

/// The product over the norms of both; zeros where one is zero, for a factor of zeros says nothing.
fn over_norms(one: MatRef<f64>, other: MatRef<f64>) -> Mat<f64> {
    let norms = one.norm_l2() * other.norm_l2();
    let scale = if norms > 0.0 { 1.0 / norms } else { 0.0 };
    one * other * coto_lowrank::faer::Scale(scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Part;

    fn part(adapter: usize, update: LowRank) -> Part<'static> {
        Part {
            adapter,
            weight: 1.0,
            update,
            scale: 1.0,
            statistics: None,
        }
    }

    fn update(rank: usize, seed: usize) -> LowRank {
        let value = |i: usize, j: usize| ((i * 7 + j * 13 + seed * 5) as f64).sin();
        LowRank::new(
            Mat::from_fn(rank, 9, |i, j| value(i, j + 1)),
            Mat::from_fn(7, rank, |i, j| value(i + 3, j)),
        )
        .unwrap()
    }

    #[test]
    fn an_adapter_that_is_only_turned_is_turned_back_and_no_update_changes() {
        let own = update(3, 1);
        let turn = Mat::from_fn(3, 3, |i, j| ((i * 3 + j * j) as f64).cos())
            .qr()
            .compute_Q();
        let same = LowRank::new(turn.transpose() * own.a(), own.b() * &turn).unwrap();
        let far = update(3, 2);
        let weights = [1.0; 3];
        let mut parts = Parts {
            path: "q",
            weights: &weights,
            parts: vec![part(0, own.clone()), part(1, same), part(2, far.clone())],
            seed: 0,
        };
        align(&mut parts).unwrap();
        let back = &parts.parts[1].update;
        assert!((back.a() - own.a()).norm_l2() < 1e-12 && (back.b() - own.b()).norm_l2() < 1e-12);
        let kept = &parts.parts[2].update;
        assert!((kept.b() * kept.a() - far.b() * far.a()).norm_l2() < 1e-12);
        let apart = |one: &LowRank| {
            (one.a() - own.a()).norm_l2().powi(2) / far.a().norm_l2()
                + (one.b() - own.b()).norm_l2().powi(2) / far.b().norm_l2()
        };
        assert!(apart(kept) < apart(&far));
    }

    #[test]
    fn zeros_are_aligned_and_other_ranks_refused() {
        let weights = [1.0; 2];
        let mut parts = Parts {
            path: "q",
            weights: &weights,
            parts: vec![
                part(0, update(2, 1)),
                part(1, LowRank::new(Mat::zeros(2, 9), Mat::zeros(7, 2)).unwrap()),
            ],
            seed: 0,
        };
        align(&mut parts).unwrap();
        assert_eq!(parts.parts[1].update.norm(), 0.0);
        parts.parts[1].update = update(3, 1);
        let error = align(&mut parts).unwrap_err().to_string();
        assert!(error.contains("[2, 3]") && error.contains("`q`"), "{error}");
    }
}
