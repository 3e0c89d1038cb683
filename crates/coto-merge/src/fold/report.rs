use serde::Serialize;

/// What folding or unfolding did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The changed tensors, in the order in which they lie in the files.
    pub folded: Vec<Folded>,
    /// How many tensors the checkpoint has.
    pub tensors: usize,
    /// Bytes written.
    pub bytes: u64,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// The largest [`Folded::drift`].
    pub drift: f64,
    /// The largest [`Folded::lost`].
    pub lost: f64,
    /// Files that are copied as they are, by their paths in the base's folder.
    pub copied: Vec<String>,
    /// Files that are left out: weights in other formats, which the fold does not change, adapters, and hidden files.
    pub left_out: Vec<String>,
}

/// One changed tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Folded {
    /// Its name.
    pub tensor: String,
    /// The module whose weight it is, by its path in the adapter.
    pub module: String,
    /// [out, in].
    pub shape: [usize; 2],
    /// Its dtype, as in the file.
    pub dtype: String,
    /// What rounding to the dtype changes: ‖round(W') − W'‖ / ‖W'‖, Frobenius norms.
    pub drift: f64,
    /// The part of the update that rounding takes: ‖round(W') − W'‖ / ‖W' − W‖, 0 where the update is 0. At 1 nothing is left of it.
    pub lost: f64,
}

/// What [`check`](super::check()) found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// How many tensors both checkpoints have.
    pub tensors: usize,
    /// How many of them are adapted.
    pub folded: usize,
    /// Numbers of adapted tensors that are not bit for bit those that [`fold`](super::fold()) writes.
    pub other_bits: u64,
    /// The largest ‖stored − W'‖ / ‖W'‖ of an adapted tensor.
    pub drift: f64,
}

/// Sums of squares over entries.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Squares {
    /// Of what is stored − what is due.
    pub error: f64,
    /// Of what is due.
    pub due: f64,
    /// Of what is due − what was there.
    pub update: f64,
}

impl Squares {
    pub fn of(before: &[f64], due: &[f64], stored: &[f64]) -> Self {
        let sum = |pairs: &[f64], others: &[f64]| -> f64 {
            let pairs = pairs.iter().zip(others);
            pairs.map(|(a, b)| (a - b).powi(2)).sum()
        };
        Self {
            error: sum(stored, due),
            due: due.iter().map(|x| x * x).sum(),
            update: sum(due, before),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.error += other.error;
        self.due += other.due;
        self.update += other.update;
    }

    pub fn drift(&self) -> f64 {
        ratio(self.error, self.due)
    }

    pub fn lost(&self) -> f64 {
        ratio(self.error, self.update)
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole).sqrt()
    } else {
        0.0
    }
}
