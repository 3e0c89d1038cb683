use serde::{Deserialize, Serialize};

/// How well what was told fits the truth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// The share of targets that are right.
    pub accuracy: f64,
    /// Of tokens: e to the mean loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Of classes: the mean over them of the harmonic mean of precision and recall; those that never occur do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Of classes: Matthews' correlation, in Gorodkin's form for several classes (Comput. Biol. Chem. 28, 2004).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matthews: Option<f64>,
}

impl Scores {
    /// From true and predicted classes, row by row.
    ///
    /// # Panics
    /// If the lengths differ, or a class is not below `classes`.
    pub fn classes(truth: &[u32], predicted: &[u32], classes: usize, loss: f64) -> Self {
        assert_eq!(truth.len(), predicted.len(), "a prediction for each row");
        let (mut hits, mut occurs, mut claimed) = (
            vec![0u64; classes],
            vec![0u64; classes],
            vec![0u64; classes],
        );
        for (&t, &p) in truth.iter().zip(predicted) {
            occurs[t as usize] += 1;
            claimed[p as usize] += 1;
            hits[t as usize] += u64::from(t == p);
        }
        let (n, right) = (truth.len() as f64, hits.iter().sum::<u64>() as f64);
        let f1: Vec<f64> = (0..classes)
            .filter(|&k| occurs[k] + claimed[k] > 0)
            .map(|k| 2.0 * hits[k] as f64 / (occurs[k] + claimed[k]) as f64)
            .collect();
        let dot =
            |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(&a, &b)| (a * b) as f64).sum::<f64>();
        let spread = |a: &[u64]| n * n - dot(a, a);
        let root = (spread(&occurs) * spread(&claimed)).sqrt();
        let covariance = right * n - dot(&occurs, &claimed);
        Self {
            loss,
            accuracy: right / n.max(1.0),
            perplexity: None,
            macro_f1: Some(f1.iter().sum::<f64>() / f1.len().max(1) as f64),
            matthews: Some(if root > 0.0 { covariance / root } else { 0.0 }),
        }
    }

    /// From the tokens that came and those that were expected.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn tokens(truth: &[u32], expected: &[u32], loss: f64) -> Self {
        assert_eq!(truth.len(), expected.len(), "an expectation of each token");
        let right = truth.iter().zip(expected).filter(|(t, e)| t == e).count();
        Self {
            loss,
            accuracy: right as f64 / truth.len().max(1) as f64,
            perplexity: Some(loss.exp()),
            macro_f1: None,
            matthews: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_scikit_learns() {
        // sklearn 1.9: accuracy_score, f1_score(average="macro"), matthews_corrcoef.
        let truth = [0, 0, 1, 1, 2, 2, 2, 0];
        let predicted = [0, 1, 1, 1, 2, 0, 2, 2];
        let scores = Scores::classes(&truth, &predicted, 3, 0.0);
        assert!((scores.accuracy - 0.625).abs() < 1e-12);
        assert!((scores.macro_f1.unwrap() - 0.622_222_222_222_222_2).abs() < 1e-12);
        assert!((scores.matthews.unwrap() - 0.452_380_952_380_952_4).abs() < 1e-12);
    }

    #[test]
    fn one_class_only_has_no_correlation() {
        let scores = Scores::classes(&[1, 1], &[1, 1], 3, 0.5);
        assert_eq!(
            (scores.accuracy, scores.macro_f1, scores.matthews),
            (1.0, Some(1.0), Some(0.0))
        );
    }
}
