use std::fmt;

use burn::linalg;
use burn::tensor::{Tensor, TensorData};
use coto_coalition::Stream;
use rand::RngExt;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{Error, FrozenLinear};

/// How the low-rank pair begins. All leave the model's output as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// PEFT's default: A uniform in ±1/√in, B zero.
    #[default]
    Kaiming,
    /// A normal with deviation 1/r, B zero.
    Gaussian,
    /// A and B from the even and the odd rows of one random orthogonal matrix, so that A B = 0; r must be even.
    Orthogonal,
    /// PiSSA (Meng et al., arXiv 2404.02948): the r largest singular triplets of W, which are subtracted from it.
    Pissa,
    /// OLoRA (Büyükakyüz, arXiv 2406.01775): the first r columns of W's QR factors, s times which are subtracted.
    Olora,
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kaiming => "kaiming",
            Self::Gaussian => "gaussian",
            Self::Orthogonal => "orthogonal",
            Self::Pissa => "pissa",
            Self::Olora => "olora",
        })
    }
}

impl Init {
    /// A [in, r] and B [r, out]; for PiSSA and OLoRA then the same again, the origin that is subtracted.
    ///
    /// # Errors
    /// [`Error::Rank`] where r does not fit: its `module` is a number, which the caller replaces by the path.
    pub fn factors(
        self,
        base: &FrozenLinear,
        rank: usize,
        scale: f64,
        draws: &mut Stream,
    ) -> Result<Vec<Tensor<2>>, Error> {
        let [inputs, outputs] = base.dims();
        let device = base.frozen().device();
        let unfit = |reason| Error::Rank {
            rank,
            module: base.module().to_string(),
            inputs,
            outputs,
            reason,
        };
        let zeros = || Tensor::zeros([rank, outputs], &device);
        let mut normal = |rows: usize, cols: usize| {
            let values: Vec<f32> = (0..rows * cols)
                .map(|_| draws.sample(StandardNormal))
                .collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows, cols]), &device)
        };
        Ok(match self {
            Self::Kaiming => {
                let bound = (inputs as f32).sqrt().recip();
                let values: Vec<f32> = (0..inputs * rank)
                    .map(|_| draws.random_range(-bound..bound))
                    .collect();
                let a = Tensor::from_data(TensorData::new(values, [inputs, rank]), &device);
                vec![a, zeros()]
            }
            Self::Gaussian => vec![normal(inputs, rank).div_scalar(rank as f32), zeros()],
            Self::Orthogonal => {
                if !rank.is_multiple_of(2) {
                    return Err(unfit("an orthogonal initialisation needs an even rank"));
                }
                let (q, _) = linalg::qr(normal(rank, rank), true);
                let rows = |start: usize| {
                    let rows = (start..rank)
                        .step_by(2)
                        .map(|i| q.clone().slice([i..i + 1]));
                    Tensor::cat(rows.collect(), 0)
                };
                let a = normal(inputs, rank / 2).matmul(rows(0)).div_scalar(10.0);
                let b = rows(1)
                    .transpose()
                    .matmul(normal(rank / 2, outputs))
                    .div_scalar(10.0);
                vec![a, b]
            }
            Self::Pissa | Self::Olora if rank > inputs.min(outputs) => {
                return Err(unfit("W has no more singular values than its smaller side"));
            }
            Self::Pissa => {
                let (u, s, vt) = linalg::svd::<2, 1>(base.weight(), 30);
                let root = s.slice([0..rank]).div_scalar(scale).sqrt();
                let a = u.slice([0..inputs, 0..rank]) * root.clone().unsqueeze_dim(0);
                let b = vt.slice([0..rank, 0..outputs]) * root.unsqueeze_dim(1);
                vec![a.clone(), b.clone(), a, b]
            }
            Self::Olora => {
                // PyTorch factors its own [out, in]: B = Q's columns, A = R's rows.
                // Only r columns are factored, for Q's first r depend on no other.
                let weight = base.weight();
                let columns = weight.clone().slice([0..rank, 0..outputs]).transpose();
                let (q, _) = linalg::qr(columns, true);
                let a = weight.matmul(q.clone());
                let b = q.transpose();
                vec![a.clone(), b.clone(), a, b]
            }
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};
    use coto_coalition::stream;

    const DIMS: [usize; 2] = [24, 16];
    const SCALE: f64 = 2.0;

    fn base() -> FrozenLinear {
        let weight = Tensor::random(DIMS, Distribution::Normal(0.0, 1.0), &Device::flex());
        FrozenLinear::new(0, weight, None)
    }

    fn factors(init: Init, base: &FrozenLinear, rank: usize) -> Vec<Tensor<2>> {
        let mut draws = stream(7, "init/tests");
        let factors = init.factors(base, rank, SCALE, &mut draws).unwrap();
        assert_eq!(factors[0].dims(), [DIMS[0], rank], "{init}");
        assert_eq!(factors[1].dims(), [rank, DIMS[1]], "{init}");
        factors
    }

    /// The largest magnitude.
    fn size(x: Tensor<2>) -> f32 {
        x.abs().max().into_scalar()
    }

    /// The Frobenius norm.
    fn norm(x: Tensor<2>) -> f32 {
        x.square().sum().sqrt().into_scalar()
    }

    #[test]
    fn kaiming_fills_the_interval_of_pytorch_and_leaves_b_at_zero() {
        let [a, b] = factors(Init::Kaiming, &base(), 8).try_into().unwrap();
        let bound = (DIMS[0] as f32).sqrt().recip();
        assert!(size(a.clone()) <= bound && size(a.clone()) > 0.9 * bound);
        // Uniform numbers deviate by bound/√3.
        let deviation = norm(a) / (8.0 * DIMS[0] as f32).sqrt();
        assert!((deviation / bound * 3f32.sqrt() - 1.0).abs() < 0.15);
        assert_eq!(size(b), 0.0);
    }

    #[test]
    fn gaussian_deviates_by_one_over_the_rank() {
        let [a, b] = factors(Init::Gaussian, &base(), 8).try_into().unwrap();
        let deviation = norm(a) / (8.0 * DIMS[0] as f32).sqrt();
        assert!((deviation * 8.0 - 1.0).abs() < 0.2, "{deviation}");
        assert_eq!(size(b), 0.0);
    }

    #[test]
    fn orthogonal_pairs_multiply_to_nothing_and_are_something() {
        let [a, b] = factors(Init::Orthogonal, &base(), 6).try_into().unwrap();
        assert!(size(a.clone().matmul(b.clone())) < 1e-6);
        assert!(norm(a) > 0.1 && norm(b) > 0.1);
        let odd = Init::Orthogonal.factors(&base(), 5, SCALE, &mut stream(7, "init/tests"));
        assert!(odd.unwrap_err().to_string().contains("even rank"));
    }

    #[test]
    fn pissa_takes_the_best_approximation_of_w() {
        let base = base();
        let [a, b, a0, b0] = factors(Init::Pissa, &base, 5).try_into().unwrap();
        assert_eq!(size(a.clone() - a0) + size(b.clone() - b0), 0.0);
        let rest = norm(base.weight() - a.matmul(b).mul_scalar(SCALE));
        // Eckart and Young: what is left are the other singular values.
        let (_, values, _) = linalg::svd::<2, 1>(base.weight(), 60);
        let left = values.slice([5..DIMS[1]]).square().sum().sqrt();
        let left: f32 = left.into_scalar();
        assert!((rest / left - 1.0).abs() < 1e-3, "{rest} {left}");
    }

    #[test]
    fn olora_takes_a_projection_of_w_onto_orthonormal_rows() {
        let base = base();
        let [a, b, a0, b0] = factors(Init::Olora, &base, 5).try_into().unwrap();
        assert_eq!(size(a.clone() - a0) + size(b.clone() - b0), 0.0);
        let unit = Tensor::eye(5, &Device::flex());
        assert!(size(b.clone().matmul(b.clone().transpose()) - unit) < 1e-5);
        assert!(size(base.weight().matmul(b.transpose()) - a) < 1e-4);
    }

    #[test]
    fn factors_of_w_need_a_rank_that_w_has() {
        for init in [Init::Pissa, Init::Olora] {
            let error = init.factors(&base(), 17, SCALE, &mut stream(7, "init/tests"));
            assert!(
                error.unwrap_err().to_string().contains("smaller side"),
                "{init}"
            );
        }
    }
}
