//! Text token by token, with the keys and values of what came before kept.

use burn::tensor::{Device, Tensor};
use coto_adapters::Pass;
use coto_coalition::stream_at;
use rand::RngExt;

use super::Llama;
use crate::{Layered, TokenBatch};

/// Keys and values of one layer, [tokens, d'] each.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Option<[Tensor<2>; 2]>);

impl Seen {
    /// Takes new ones in, and gives all.
    pub fn extend(&mut self, new: [Tensor<2>; 2]) -> [Tensor<2>; 2] {
        let all = match self.0.take() {
            None => new,
            Some([keys, values]) => {
                let [k, v] = new;
                [
                    Tensor::cat(vec![keys, k], 0),
                    Tensor::cat(vec![values, v], 0),
                ]
            }
        };
        self.0 = Some(all.clone());
        all
    }
}

/// What a decoder keeps of one sequence: the keys and values of its tokens, layer by layer.
///
/// It is of one model under one pass: with other adapters on, start afresh.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<Seen>,
    tokens: usize,
}

impl Cache {
    /// Of no token yet.
    pub fn new(model: &Llama) -> Self {
        Self {
            layers: vec![Seen::default(); model.depth()],
            tokens: 0,
        }
    }

    /// How many tokens it holds.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only the likeliest tokens that make up this share are drawn from (Holtzman et al., arXiv 1904.09751); 1: all.
    pub top_p: f64,
    /// The seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token each time.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
    };

    /// The token after `place` others; a function of the logits, the seed and the place. Of equal ones the first.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn choose(&self, logits: &[f32], place: usize) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        if self.temperature <= 0.0 {
            let best = order
                .into_iter()
                .rev()
                .max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            return best.expect("a vocabulary") as u32;
        }
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let top = f64::from(logits[order[0]]);
        let weight = |&token: &usize| ((f64::from(logits[token]) - top) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let mut below = self.top_p * weights.iter().sum::<f64>();
        // The one that reaches the share is in.
        let kept = weights.iter().position(|w| {
            below -= w;
            below <= 0.0
        });
        let kept = kept.map_or(weights.len(), |last| last + 1);
        let mut draw = stream_at(self.seed, "generate", place as u64).random::<f64>()
            * weights[..kept].iter().sum::<f64>();
        let drawn = weights[..kept].iter().position(|w| {
            draw -= w;
            draw < 0.0
        });
        order[drawn.unwrap_or(kept - 1)] as u32
    }
}

impl Llama {
    /// Takes tokens in after those of the cache; returns the logits of what follows the last, [1, vocabulary].
    ///
    /// # Panics
    /// If there is no token, or the cache is of a model of another depth.
    pub fn extend(&self, ids: &[u32], cache: &mut Cache, pass: &Pass) -> Tensor<2> {
        assert!(!ids.is_empty(), "a token at least");
        assert_eq!(cache.layers.len(), self.depth(), "another model's cache");
        let (len, device) = (ids.len(), self.device());
        let batch = TokenBatch::new(ids, &vec![0; len], &vec![true; len], 1, &device);
        let mut hidden = self.embed_after(&batch, cache.tokens);
        for (layer, seen) in cache.layers.iter_mut().enumerate() {
            hidden = self.block(layer, hidden, pass, Some(seen));
        }
        cache.tokens += len;
        hidden.states = hidden.states.slice([len - 1..len]);
        self.logits(hidden)
    }

    /// Continues a prompt until a token of `ends`, `limit` tokens, the end of the model's positions, or until `on`, which is
    /// told each token, says `false`. Returns the new tokens, the ending one not among them.
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn generate(
        &self,
        prompt: &[u32],
        ends: &[u32],
        limit: usize,
        sampling: &Sampling,
        pass: &Pass,
        on: &mut dyn FnMut(u32) -> bool,
    ) -> Vec<u32> {
        let mut cache = Cache::new(self);
        let mut made = Vec::new();
        let mut next = prompt.to_vec();
        let room = self.config.max_position_embeddings;
        while made.len() < limit && prompt.len() + made.len() < room {
            let logits = self.extend(&next, &mut cache, pass);
            let logits = logits.into_data().convert::<f32>();
            let token = sampling.choose(logits.as_slice().expect("converted to f32"), made.len());
            if ends.contains(&token) {
                break;
            }
            made.push(token);
            if !on(token) {
                break;
            }
            next = vec![token];
        }
        made
    }

    fn device(&self) -> Device {
        self.norm.gamma.device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coldest_draw_is_the_likeliest_token_and_a_hot_one_follows_the_odds() {
        let logits = [0.0, 2f32.ln(), 1.0, -40.0];
        assert_eq!(Sampling::GREEDY.choose(&logits, 0), 2);
        assert_eq!(
            Sampling::GREEDY.choose(&[1.0, 1.0], 0),
            0,
            "the first of equals"
        );
        let warm = |top_p| Sampling {
            temperature: 1.0,
            top_p,
            seed: 3,
        };
        let count = |top_p: f64| {
            let mut counts = [0; 4];
            (0..6000).for_each(|place| counts[warm(top_p).choose(&logits, place) as usize] += 1);
            counts
        };
        let (all, total) = (count(1.0), 1.0 + 2.0 + 1f64.exp());
        for (token, weight) in [1.0, 2.0, 1f64.exp()].into_iter().enumerate() {
            let share = f64::from(all[token]) / 6000.0;
            assert!((share - weight / total).abs() < 0.03, "{all:?}");
        }
        // The likeliest has .475 of it, the next .350.
        assert_eq!(count(0.4), [0, 0, 6000, 0]);
        let two = count(0.6);
        assert!(two[0] == 0 && two[1] > 2000 && two[2] > 2000, "{two:?}");
    }
}
