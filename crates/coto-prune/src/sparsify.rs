use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use coto_lowrank::faer::Mat;
use coto_lowrank::{Matrix, Statistics};
use coto_peft::{Folder, HostTensor, Param, PeftType};
use serde::{Deserialize, Serialize};

use crate::mask::{lowest, lowest_of_each};
use crate::text::by_text;
use crate::{Error, Scope, Sparsity, factors, sparsegpt};

/// Which entries of the factors A and B become zero.
///
/// As a text: `magnitude:tensor`, `magnitude:row`, `magnitude:global`, `wanda`, `sparsegpt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Those of the lowest |W_ij|.
    Magnitude(Scope),
    /// Those of the lowest |W_ij| · ‖X_j‖₂ in each output row i, X_j being the inputs' column j (Sun et al., arXiv 2306.11695,
    /// equation 1). A's inputs are the module's, B's are A x with the folder's own A. The other entries stay as they are.
    Wanda,
    /// Those of the lowest W_ij² / U_jj², in blocks of 128 columns over all rows, the error of each passed on to the columns after
    /// it (Frantar and Alistarh, arXiv 2301.00774, algorithm 1): W_{i,k} −= W_ij / U_jj · U_jk for k ≥ j, with H = 2 XᵀX + λI,
    /// λ = 0.01 of the mean of its diagonal, and H⁻¹ = UᵀU, U upper triangular. Inputs as for Wanda. The factors come out in f32.
    SparseGpt,
}

by_text!(Rule);

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Self::Magnitude(_) => "magnitude",
            Self::Wanda => "wanda",
            Self::SparseGpt => "sparsegpt",
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "magnitude:tensor" => Self::Magnitude(Scope::Tensor),
            "magnitude:row" => Self::Magnitude(Scope::Row),
            "magnitude:global" => Self::Magnitude(Scope::Global),
            "wanda" => Self::Wanda,
            "sparsegpt" => Self::SparseGpt,
            _ => {
                return Err(Error::Text {
                    what: "rule for entries",
                    text: text.to_owned(),
                    known: "`magnitude:tensor`, `magnitude:row`, `magnitude:global`, `wanda`, `sparsegpt`",
                });
            }
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magnitude(scope) => write!(f, "magnitude:{}", scope.name()),
            _ => f.write_str(self.name()),
        }
    }
}

/// Zeros among entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zeros {
    /// Entries that are 0.
    pub zeros: usize,
    /// All entries.
    pub entries: usize,
}

impl Zeros {
    /// The share of zeros; 0 of no entries.
    pub fn share(self) -> f64 {
        self.zeros as f64 / self.entries.max(1) as f64
    }
}

impl Sum for Zeros {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            zeros: sum.zeros + one.zeros,
            entries: sum.entries + one.entries,
        })
    }
}

/// The zeros in A and in B of each module.
///
/// # Errors
/// [`Error::Peft`] for a folder that contradicts itself.
pub fn sparsity(folder: &Folder) -> Result<BTreeMap<String, [Zeros; 2]>, Error> {
    let count = |tensor: &HostTensor| -> Result<Zeros, Error> {
        let values = tensor.to_f32()?;
        Ok(Zeros {
            zeros: values.iter().filter(|&&value| value == 0.0).count(),
            entries: values.len(),
        })
    };
    let modules = folder.modules()?;
    let counted = modules.iter().map(|(path, tensors)| {
        let [a, b] = factors::of(&folder.config, tensors);
        Ok((path.clone(), [count(a)?, count(b)?]))
    });
    counted.collect()
}

/// A factor of a module, to be pruned.
struct Factor<'a> {
    path: &'a str,
    /// 0 for A, 1 for B.
    which: usize,
    tensor: &'a HostTensor,
    weights: Matrix,
    /// Before B: A.
    before: Option<Mat<f64>>,
    /// Inputs of the module, [samples, in], where the rule asks for them.
    inputs: Option<&'a Matrix>,
}

/// The folder with zeros in A and B, of the same shapes, ranks and scales. `statistics` by module, for Wanda and SparseGPT.
///
/// LoRA, rsLoRA and DoRA (whose magnitude stays) by every rule; HiRA by magnitude only, for its factors have no inputs.
///
/// # Errors
/// [`Error::Number`] for a sparsity that is none; [`Error::Pattern`]; [`Error::NoStatistics`], [`Error::Statistics`] and
/// [`Error::Hessian`]; [`Error::Refused`] for HiRA by data; [`Error::Peft`] for a folder that contradicts itself.
pub fn sparsify(
    folder: &Folder,
    rule: Rule,
    sparsity: Sparsity,
    statistics: &BTreeMap<String, Statistics>,
) -> Result<Folder, Error> {
    let sparsity = sparsity.check()?;
    let modules = folder.modules()?;
    let found = read(folder, &modules, rule, statistics)?;
    if let Sparsity::Pattern { of, .. } = sparsity
        && let Some(odd) = found.iter().find(|factor| factor.weights.cols() % of != 0)
    {
        return Err(Error::Pattern {
            module: odd.path.to_owned(),
            factor: odd.name(),
            cols: odd.weights.cols(),
            of,
        });
    }
    let pruned: Vec<HostTensor> = match rule {
        Rule::Magnitude(scope) => masked(&found, scope, sparsity),
        Rule::Wanda => masked(&found, Scope::Row, sparsity),
        Rule::SparseGpt => {
            let solved = found.iter().map(|factor| factor.solved(sparsity));
            solved.collect::<Result<_, _>>()?
        }
    };
    let mut sparse = folder.clone();
    let params = folder.config.peft_type.factors();
    for (factor, tensor) in found.iter().zip(pruned) {
        sparse.insert(factor.path, params[factor.which], tensor);
    }
    Ok(sparse)
}

type Modules<'a> = BTreeMap<String, BTreeMap<Param, &'a HostTensor>>;

fn read<'a>(
    folder: &Folder,
    modules: &'a Modules<'a>,
    rule: Rule,
    statistics: &'a BTreeMap<String, Statistics>,
) -> Result<Vec<Factor<'a>>, Error> {
    let by_data = !matches!(rule, Rule::Magnitude(_));
    if by_data && folder.config.peft_type == PeftType::Hira {
        return Err(Error::Refused {
            method: rule.name(),
            variant: "HiRA",
            reason: "its factors scale the entries of the base weight and have no inputs of their own; magnitude needs none",
        });
    }
    let mut found = Vec::new();
    for (path, tensors) in modules {
        let [a, b] = factors::of(&folder.config, tensors);
        let weights = Matrix::read(a)?;
        let inputs = match by_data {
            true => Some(inputs(path, rule, weights.cols(), statistics)?),
            false => None,
        };
        let before = inputs.map(|_| weights.to_f64());
        let factor = |which, tensor, weights, before| Factor {
            path,
            which,
            tensor,
            weights,
            before,
            inputs,
        };
        found.push(factor(0, a, weights, None));
        found.push(factor(1, b, Matrix::read(b)?, before));
    }
    Ok(found)
}

/// A sample of a module's inputs, [samples, in].
fn inputs<'a>(
    path: &str,
    rule: Rule,
    cols: usize,
    statistics: &'a BTreeMap<String, Statistics>,
) -> Result<&'a Matrix, Error> {
    let inputs = statistics.get(path).map(|found| &found.inputs);
    let inputs = inputs.filter(|inputs| inputs.rows() > 0);
    let inputs = inputs.ok_or_else(|| Error::NoStatistics {
        module: path.to_owned(),
        method: rule.name(),
        needs: "a sample of the module's inputs",
    })?;
    if inputs.cols() != cols {
        return Err(Error::Statistics {
            module: path.to_owned(),
            what: "inputs",
            found: [inputs.rows(), inputs.cols()],
            expected: [inputs.rows(), cols],
        });
    }
    if let Some(value) = inputs.values().iter().find(|value| !value.is_finite()) {
        return Err(Error::NotFinite {
            what: format!("an input of module `{path}`"),
            value: f64::from(*value),
        });
    }
    Ok(inputs)
}

/// The factors without the entries of the lowest scores.
fn masked(found: &[Factor], scope: Scope, sparsity: Sparsity) -> Vec<HostTensor> {
    let scores: Vec<Vec<f64>> = found.iter().map(Factor::scores).collect();
    let masks: Vec<Vec<bool>> = match (sparsity, scope) {
        (Sparsity::Share(_), Scope::Global) => {
            let all = scores.concat();
            let mask = lowest(&all, sparsity.zeros(all.len()));
            let mut rest = mask.as_slice();
            let own =
                |scores: &Vec<f64>| rest.split_off(..scores.len()).unwrap_or_default().to_vec();
            scores.iter().map(own).collect()
        }
        _ => {
            let group = |factor: &Factor| match (sparsity, scope) {
                (Sparsity::Pattern { of, .. }, _) => of,
                (_, Scope::Row) => factor.weights.cols(),
                _ => factor.weights.values().len(),
            };
            let each = found.iter().zip(&scores);
            each.map(|(factor, scores)| lowest_of_each(scores, group(factor), sparsity))
                .collect()
        }
    };
    let each = found.iter().zip(&masks);
    each.map(|(factor, mask)| factors::zeroed(factor.tensor, mask))
        .collect()
}

impl Factor<'_> {
    fn name(&self) -> char {
        ['A', 'B'][self.which]
    }

    /// The factor's own inputs, [samples, columns]: made when asked for, since those of all modules together are large.
    fn inputs(&self) -> Option<Mat<f64>> {
        let inputs = self.inputs?.to_f64();
        match &self.before {
            Some(a) => Some(inputs * a.transpose()),
            None => Some(inputs),
        }
    }

    /// |W_ij|, times ‖X_j‖₂ where there are inputs; row by row.
    fn scores(&self) -> Vec<f64> {
        let norms: Vec<f64> = match self.inputs() {
            Some(inputs) => inputs.col_iter().map(|column| column.norm_l2()).collect(),
            None => vec![1.0; self.weights.cols()],
        };
        let values = self.weights.values().iter().zip(norms.iter().cycle());
        values
            .map(|(weight, norm)| f64::from(weight.abs()) * norm)
            .collect()
    }

    fn solved(&self, sparsity: Sparsity) -> Result<HostTensor, Error> {
        let inputs = self.inputs().expect("read with the inputs");
        let solved = sparsegpt::solve(self.weights.to_f64(), inputs.as_ref(), sparsity);
        let solved = solved.ok_or_else(|| Error::Hessian {
            module: self.path.to_owned(),
            factor: self.name(),
        })?;
        let solved = Matrix::rounded(solved.as_ref());
        Ok(HostTensor::from_f32(
            [solved.rows(), solved.cols()],
            solved.values(),
        )?)
    }
}
