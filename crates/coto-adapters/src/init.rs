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
        let device = base.weight().device();
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
                let columns = base.weight().slice([0..rank, 0..outputs]).transpose();
                let (q, _) = linalg::qr(columns, true);
                let a = base.weight().matmul(q.clone());
                let b = q.transpose();
                vec![a.clone(), b.clone(), a, b]
            }
        })
    }
}
