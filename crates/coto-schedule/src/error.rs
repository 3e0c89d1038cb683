/// What can be wrong with a schedule's configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A run of no steps.
    #[error("a schedule needs at least one optimiser step, not 0")]
    ZeroSteps,
    /// `p0` or `p1` is no probability.
    #[error("schedule: `{key}` = {value} is not a probability between 0 and 1")]
    Probability {
        /// `p0` or `p1`.
        key: &'static str,
        /// Its value.
        value: f64,
    },
    /// The activation would fall.
    #[error("schedule: `p0` = {p0} is above `p1` = {p1}, but activation can only rise")]
    Falling {
        /// Where the activation would begin.
        p0: f64,
        /// Where it would end.
        p1: f64,
    },
    /// `stage_ratio` is no part of the run.
    #[error("schedule: `stage_ratio` = {value} is not above 0 and at most 1")]
    StageRatio {
        /// Its value.
        value: f64,
    },
    /// The exponential curve's `k` is infinite or not a number.
    #[error("schedule: the exponential curve's `k` = {value} is not finite")]
    Curvature {
        /// Its value.
        value: f64,
    },
    /// A key is set that would be ignored.
    #[error("schedule: `{key}` has no effect under {under}; remove it")]
    NoEffect {
        /// The key.
        key: &'static str,
        /// What makes it void.
        under: &'static str,
    },
}
