use crate::Matrix;

/// What calibration data says of one adapted module: what merging by data and pruning by data start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Inputs of the module, a sample of them: [samples, in].
    pub inputs: Matrix,
    /// Of the mean loss's gradients g of single batches, where they were asked for.
    pub gradients: Option<Gradients>,
}

/// Means over batches of what the factors' gradients say. The factors are those of the PEFT folder, without the scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// g², the diagonal of the empirical Fisher information.
    pub squared: PerFactor,
    /// |g · w|, the sensitivity of each entry (AdaLoRA, arXiv 2303.10512, equation 8).
    pub sensitivity: PerFactor,
}

/// A number for each entry of both factors.
#[derive(Debug, Clone, PartialEq)]
pub struct PerFactor {
    /// Of A, [r, in].
    pub a: Matrix,
    /// Of B, [out, r].
    pub b: Matrix,
}
