use coto_coalition::{Coalition, Players, stream_at};
use rand::RngExt;

use crate::Schedule;

/// Draws the coalition of each optimiser step.
///
/// A draw is a function of the seed and the step alone: all micro-batches and replicas of a step agree, and a resumed run needs
/// the configuration, the seed and the step number, nothing more.
///
/// Where somebody must be on, the coalition has exactly the distribution that redrawing until somebody is on would give it,
/// but takes one pass however small p is. At p = 0, where redrawing never ends, one player drawn uniformly is on.
#[derive(Clone, Debug, PartialEq)]
pub struct CoalitionSampler {
    schedule: Schedule,
    /// Player i is on with probability p(t) to the power of this, before the rule that somebody must be on.
    exponents: Vec<f64>,
    seed: u64,
}

impl CoalitionSampler {
    /// The sampler of these players, with `"coalition"` as the name of its stream under `seed`.
    pub fn new(schedule: Schedule, players: &Players, seed: u64) -> Self {
        let exponents = schedule.profile.exponents(players);
        Self {
            schedule,
            exponents,
            seed,
        }
    }

    /// The schedule that the sampler follows.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The coalition of step `t`, counted from 0.
    pub fn draw(&self, t: usize) -> Coalition {
        let chances = self.chances(t);
        let firsts = first_chances(&chances);
        let mut stream = stream_at(self.seed, "coalition", t as u64);
        let mut coalition = Coalition::empty(chances.len());
        let mut somebody = !self.schedule.never_all_off;
        for (player, (chance, first)) in chances.into_iter().zip(firsts).enumerate() {
            if stream.random::<f64>() < if somebody { chance } else { first } {
                coalition.insert(player);
                somebody = true;
            }
        }
        coalition
    }

    /// The probability, one per player, of being on at step `t` under everything that [`CoalitionSampler::draw`] does.
    ///
    /// If somebody must be on and all n players have the same p > 0, it is p / (1 - (1 - p)^n), and 1/n at p = 0.
    pub fn rate(&self, t: usize) -> Vec<f64> {
        let chances = self.chances(t);
        if !self.schedule.never_all_off {
            return chances;
        }
        match any_chance(&chances) {
            0.0 => vec![1.0 / chances.len() as f64; chances.len()],
            any => chances.into_iter().map(|chance| chance / any).collect(),
        }
    }

    fn chances(&self, t: usize) -> Vec<f64> {
        let p = self.schedule.p(t);
        self.exponents
            .iter()
            .map(|&exponent| p.powf(exponent))
            .collect()
    }
}

/// 1 - ∏(1 - pᵢ), summed from the last player down without cancellation.
fn any_chance(chances: &[f64]) -> f64 {
    chances
        .iter()
        .rfold(0.0, |any, chance| chance + (1.0 - chance) * any)
}

/// The probability of each player being on, given that all before it are off and that it or one after it is on. In the limit
/// of equal vanishing chances that is one over the number of players left, which draws one of them uniformly.
fn first_chances(chances: &[f64]) -> Vec<f64> {
    let mut any = 0.0;
    let mut firsts: Vec<f64> = (1..=chances.len()).map(|left| 1.0 / left as f64).collect();
    for (first, chance) in firsts.iter_mut().zip(chances.iter().rev()) {
        any = chance + (1.0 - chance) * any;
        if any > 0.0 {
            *first = chance / any;
        }
    }
    firsts.reverse();
    firsts
}

#[cfg(test)]
mod tests {
    use coto_coalition::Module;
    use proptest::prelude::*;

    use super::*;
    use crate::{Preset, Profile, ScheduleConfig};

    const DRAWS: usize = 40_000;

    fn players(n: usize) -> Players {
        let modules =
            (0..n).map(|layer| Module::new(format!("layer.{layer}"), Some(layer), "query"));
        Players::per_layer(&modules.collect::<Vec<_>>())
    }

    fn sampler(config: &ScheduleConfig, steps: usize, n: usize, seed: u64) -> CoalitionSampler {
        CoalitionSampler::new(Schedule::new(config, steps).unwrap(), &players(n), seed)
    }

    fn preset(preset: Preset) -> ScheduleConfig {
        ScheduleConfig {
            preset,
            ..Default::default()
        }
    }

    /// The same p at every step.
    fn constant(p: f64) -> ScheduleConfig {
        ScheduleConfig {
            p1: Some(p),
            ..preset(Preset::StochasticDepth)
        }
    }

    fn counts(sampler: &CoalitionSampler, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        for t in 0..DRAWS {
            sampler
                .draw(t)
                .iter()
                .for_each(|player| counts[player] += 1);
        }
        counts
    }

    /// Whether a count is within `z` standard deviations of its expectation.
    fn within(count: usize, rate: f64, z: f64) -> bool {
        let n = DRAWS as f64;
        (count as f64 - n * rate).abs() <= z * (n * rate * (1.0 - rate)).sqrt()
    }

    #[test]
    fn players_are_on_as_often_as_redrawing_would_have_them() {
        // 40 players in all: with Bonferroni's correction, z = 4.22 is a band of 99.9 % for all of them together.
        for (n, rate) in [(4, 0.291), (12, 0.139), (24, 0.109)] {
            let sampler = sampler(&constant(0.1), DRAWS, n, 1);
            let exact = 0.1 / (1.0 - 0.9f64.powi(n as i32));
            assert!((exact - rate).abs() < 5e-4);
            assert!(
                sampler
                    .rate(0)
                    .iter()
                    .all(|rate| (rate - exact).abs() < 1e-15)
            );
            let counts = counts(&sampler, n);
            assert!(
                counts.iter().all(|&count| within(count, exact, 4.22)),
                "{n} players: {counts:?}"
            );
        }
    }

    #[test]
    fn whole_coalitions_are_as_frequent_as_redrawing_would_have_them() {
        let config = ScheduleConfig {
            profile: Some(Profile::HigherDropped),
            ..constant(0.1)
        };
        let sampler = sampler(&config, DRAWS, 3, 2);
        let p = [0.1f64.powf(0.5), 0.1, 0.1f64.powf(1.5)];
        let nobody: f64 = p.iter().map(|p| 1.0 - p).product();
        let mut counts = [0usize; 8];
        for t in 0..DRAWS {
            counts[sampler
                .draw(t)
                .iter()
                .map(|player| 1 << player)
                .sum::<usize>()] += 1;
        }
        let chance = |set: usize| -> f64 {
            (0..3)
                .map(|i| if set >> i & 1 == 1 { p[i] } else { 1.0 - p[i] })
                .product()
        };
        let expected = |set| DRAWS as f64 * chance(set) / (1.0 - nobody);
        let chi2: f64 = (1..8)
            .map(|set| (counts[set] as f64 - expected(set)).powi(2) / expected(set))
            .sum();
        assert_eq!(counts[0], 0);
        assert!(
            chi2 < 22.46,
            "chi-square of 6 degrees of freedom is {chi2}, past its 99.9 % quantile"
        );
    }

    #[test]
    fn at_no_or_next_to_no_activation_one_uniform_player_is_on() {
        for p in [0.0, 1e-300, 1e-12] {
            let sampler = sampler(&constant(p), DRAWS, 12, 3);
            assert!((0..DRAWS).all(|t| sampler.draw(t).len() == 1));
            assert!(
                sampler
                    .rate(0)
                    .iter()
                    .all(|rate| (rate - 1.0 / 12.0).abs() < 1e-11)
            );
            let counts = counts(&sampler, 12);
            let expected = DRAWS as f64 / 12.0;
            let chi2: f64 = counts
                .iter()
                .map(|&count| (count as f64 - expected).powi(2) / expected)
                .sum();
            assert!(
                chi2 < 31.26,
                "chi-square of 11 degrees of freedom is {chi2}, past its 99.9 % quantile"
            );
        }
    }

    #[test]
    fn nobody_may_be_on_where_that_is_allowed() {
        let config = ScheduleConfig {
            never_all_off: Some(false),
            ..constant(0.25)
        };
        let sampler = sampler(&config, DRAWS, 4, 4);
        assert_eq!(sampler.rate(0), [0.25; 4]);
        // Five counts: z = 3.72 is a band of 99.9 % for all of them together.
        assert!(
            counts(&sampler, 4)
                .iter()
                .all(|&count| within(count, 0.25, 3.72))
        );
        let empty = (0..DRAWS).filter(|&t| sampler.draw(t).is_empty()).count();
        assert!(within(empty, 0.75f64.powi(4), 3.72), "{empty}");
    }

    #[test]
    fn profiles_order_the_rates_by_height() {
        let rates = |profile| {
            let config = ScheduleConfig {
                profile: Some(profile),
                ..preset(Preset::CotoReference)
            };
            sampler(&config, 100, 6, 0).rate(30)
        };
        assert!(rates(Profile::HigherDropped).is_sorted_by(|low, high| low > high));
        assert!(rates(Profile::LowerDropped).is_sorted_by(|low, high| low < high));
        assert!(rates(Profile::Uniform).is_sorted_by(|low, high| low == high));
    }

    #[test]
    fn without_a_schedule_everybody_is_always_on() {
        let sampler = sampler(&preset(Preset::None), 50, 70, 5);
        assert!((0..60).all(|t| sampler.draw(t).is_grand()));
    }

    #[test]
    fn the_last_stage_trains_everybody_under_every_profile() {
        for profile in [
            Profile::Uniform,
            Profile::HigherDropped,
            Profile::LowerDropped,
        ] {
            let config = ScheduleConfig {
                profile: Some(profile),
                ..Default::default()
            };
            let sampler = sampler(&config, 101, 12, 6);
            assert_eq!(sampler.schedule().stage_end(), 76);
            assert!((76..101).all(|t| sampler.draw(t).is_grand()));
            assert!((0..76).any(|t| !sampler.draw(t).is_grand()));
        }
    }

    #[test]
    fn a_run_resumed_from_its_saved_configuration_draws_the_same() {
        let config = ScheduleConfig {
            profile: Some(Profile::LowerDropped),
            ..preset(Preset::CotoReference)
        };
        let whole: Vec<Coalition> = (0..200)
            .map(|t| sampler(&config, 200, 12, 8).draw(t))
            .collect();
        let saved = serde_json::to_string(&config).unwrap();
        let resumed = sampler(&serde_json::from_str(&saved).unwrap(), 200, 12, 8);
        assert_eq!(
            (120..200).map(|t| resumed.draw(t)).collect::<Vec<_>>(),
            whole[120..]
        );
        assert!((0..200).any(|t| sampler(&config, 200, 12, 9).draw(t) != whole[t]));
    }

    #[test]
    fn the_first_draws_never_change() {
        // By an independent implementation of the cipher, the key and the draw.
        let sampler = sampler(&preset(Preset::CotoReference), 20, 12, 0);
        let draws: Vec<String> = [0, 1, 5, 10, 14]
            .map(|t| sampler.draw(t).to_string())
            .into();
        assert_eq!(
            draws,
            [
                "000000010001",
                "000001100001",
                "000011100110",
                "100101111011",
                "111110111101"
            ]
        );
    }

    proptest! {
        #[test]
        fn first_chances_multiply_to_the_chance_of_being_the_first(chances in prop::collection::vec(0.001..=1.0, 1..20)) {
            let firsts = first_chances(&chances);
            prop_assert_eq!(firsts[firsts.len() - 1], 1.0);
            let nobody: f64 = chances.iter().map(|p: &f64| 1.0 - p).product();
            let (mut before, mut none_yet) = (1.0, 1.0);
            for (p, first) in chances.iter().zip(&firsts) {
                prop_assert!((0.0..=1.0).contains(first));
                prop_assert!((none_yet * first - before * p / (1.0 - nobody)).abs() < 1e-12);
                before *= 1.0 - p;
                none_yet *= 1.0 - first;
            }
        }
    }
}
