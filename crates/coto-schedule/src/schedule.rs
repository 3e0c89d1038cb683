use crate::{Curve, Error, Profile, ScheduleConfig};

/// A checked schedule: the probability p(t) with which players are on at each optimiser step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    curve: Curve,
    p0: f64,
    p1: f64,
    stage_end: usize,
    pub(crate) profile: Profile,
    pub(crate) never_all_off: bool,
}

impl Schedule {
    /// The schedule of a run of `total_steps` optimiser steps (steps of accumulation do not count).
    ///
    /// # Errors
    /// No steps, a value out of its range, or a key that would have no effect; each error names the key.
    pub fn new(config: &ScheduleConfig, total_steps: usize) -> Result<Self, Error> {
        if total_steps == 0 {
            return Err(Error::ZeroSteps);
        }
        let (curve, p0, p1, ratio) = config.resolve()?;
        let stage_end = (ratio * total_steps as f64).ceil() as usize;
        let (profile, never_all_off) = (
            config.profile.unwrap_or_default(),
            config.never_all_off.unwrap_or(true),
        );
        Ok(Self {
            curve,
            p0,
            p1,
            stage_end,
            profile,
            never_all_off,
        })
    }

    /// p(t) = min(p0 + (p1 - p0) · curve(t / ⌈ratio · T⌉), p1) at step `t` of T, counted from 0; p1 from the end of the first
    /// stage on (CoTo, arXiv 2506.05713, its equation for p(t) generalised as in its authors' code).
    ///
    /// It is the probability *before* the rule that somebody must be on; [`crate::CoalitionSampler::rate`] is the one after it.
    pub fn p(&self, t: usize) -> f64 {
        if t >= self.stage_end {
            return self.p1;
        }
        let x = t as f64 / self.stage_end as f64;
        (self.p0 + (self.p1 - self.p0) * self.curve.at(x)).min(self.p1)
    }

    /// The first step after the first stage: ⌈ratio · T⌉.
    pub fn stage_end(&self) -> usize {
        self.stage_end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Preset;

    fn schedule(preset: Preset, curve: Option<Curve>, steps: usize) -> Schedule {
        Schedule::new(
            &ScheduleConfig {
                preset,
                curve,
                ..Default::default()
            },
            steps,
        )
        .unwrap()
    }

    /// p at steps 0, 1, end - 1, end and T.
    fn landmarks(schedule: &Schedule, steps: usize) -> [f64; 5] {
        let end = schedule.stage_end();
        [0, 1, end - 1, end, steps].map(|t| schedule.p(t))
    }

    fn assert_close(got: [f64; 5], want: [f64; 5]) {
        assert!(
            got.iter()
                .zip(want)
                .all(|(got, want)| (got - want).abs() < 1e-14),
            "{got:?} is not {want:?}"
        );
    }

    #[test]
    fn presets_pass_their_landmarks() {
        for (preset, at) in [
            (Preset::Coto, [0.0, 1.0 / 75.0, 74.0 / 75.0, 1.0, 1.0]),
            (Preset::Copra, [0.0, 1.0 / 75.0, 74.0 / 75.0, 1.0, 1.0]),
            (Preset::CotoReference, [0.1, 0.112, 0.988, 1.0, 1.0]),
            (Preset::StochasticDepth, [0.75; 5]),
            (Preset::None, [1.0; 5]),
        ] {
            let schedule = schedule(preset, None, 100);
            assert_eq!(schedule.stage_end(), 75);
            assert_close(landmarks(&schedule, 100), at);
        }
    }

    #[test]
    fn curves_pass_their_landmarks() {
        // T = 4, end = 3; k = 3 ln 2 makes e^(kx) 1, 2, 4, 8 at the four steps.
        let (sine, exponential) = (Curve::Sine, Curve::Exponential { k: 8f64.ln() });
        let at = |curve| landmarks(&schedule(Preset::Coto, Some(curve), 4), 4);
        assert_close(at(Curve::Linear), [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0]);
        assert_close(at(sine), [0.0, 0.5, 0.75f64.sqrt(), 1.0, 1.0]);
        assert_close(at(exponential), [0.0, 1.0 / 7.0, 3.0 / 7.0, 1.0, 1.0]);
    }

    #[test]
    fn the_first_stage_rounds_up() {
        for (steps, end) in [(1, 1), (2, 2), (3, 3), (5, 4), (10, 8), (11, 9)] {
            let schedule = schedule(Preset::CotoReference, None, steps);
            assert_eq!(schedule.stage_end(), end);
            let slope = 0.9 / end as f64;
            assert!((schedule.p(end - 1) - (1.0 - slope)).abs() < 1e-15);
            assert_eq!((schedule.p(0), schedule.p(end)), (0.1, 1.0));
        }
    }

    #[test]
    fn a_run_without_steps_is_refused() {
        assert_eq!(
            Schedule::new(&ScheduleConfig::default(), 0),
            Err(Error::ZeroSteps)
        );
    }

    proptest! {
        #[test]
        fn p_rises_from_p0_to_p1(p in (0.0..=1.0, 0.0..=1.0), k in -50.0..50.0, ratio in 0.01..=1.0, steps in 1usize..200) {
            let (p0, p1) = if p.0 < p.1 { p } else { (p.1, p.0) };
            for curve in [Curve::Linear, Curve::Sine, Curve::Exponential { k }] {
                let config = ScheduleConfig {
                    curve: Some(curve), p0: Some(p0), p1: Some(p1), stage_ratio: Some(ratio), ..Default::default()
                };
                let schedule = Schedule::new(&config, steps).unwrap();
                prop_assert_eq!(schedule.p(0), p0);
                prop_assert_eq!(schedule.p(steps), p1);
                prop_assert!((0..steps).all(|t| schedule.p(t) <= schedule.p(t + 1) + 1e-15));
            }
        }
    }
}
