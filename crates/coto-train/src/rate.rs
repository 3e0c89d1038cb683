use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Nothing.
    Constant,
    /// Falls to 0 in a line.
    #[default]
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
}

/// The learning rate of every step.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// At the peak.
    pub peak: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
    /// After the warm-up.
    pub decay: Decay,
}

impl Rate {
    /// The rate of step `t`, from 0, as `transformers` counts: 0 at the first step of a warm-up.
    pub fn at(&self, t: usize) -> f64 {
        if t < self.warmup {
            return self.peak * t as f64 / self.warmup as f64;
        }
        let rest = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = (t - self.warmup) as f64 / rest;
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => (1.0 - done).max(0.0),
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_and_decay_falls() {
        let rate = |decay, t| {
            Rate {
                peak: 2.0,
                warmup: 4,
                steps: 12,
                decay,
            }
            .at(t)
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(rate(Decay::Linear, 0), 0.0);
        near(rate(Decay::Linear, 3), 1.5);
        near(rate(Decay::Constant, 11), 2.0);
        near(rate(Decay::Linear, 4), 2.0);
        near(rate(Decay::Linear, 8), 1.0);
        near(rate(Decay::Cosine, 8), 1.0);
        near(rate(Decay::Cosine, 6), 2.0 * 0.853_553_390_593_273_8);
        near(rate(Decay::Linear, 12), 0.0);
        near(rate(Decay::Linear, 40), 0.0);
    }
}
