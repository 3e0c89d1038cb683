use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use coto_adapters::Pass;
use coto_coalition::Coalition;
use coto_models::{Hidden, Input, Layered, Model};
use serde::Serialize;

use crate::{Error, Run, RunConfig};

/// What is kept of the frozen prefix: the states that training samples have below the lowest active layer, where they are the
/// base model's own at every step.
///
/// A state is that of one sample at one depth, its tokens without padding, in f32 on the host. It is made when a step needs it
/// and kept while there is room and a later step may begin at its depth or above. Rows of a batch whose samples are all known
/// at a depth start there; the others are brought so far by the base model, layer by layer, the known ones joining on the way.
///
/// Where not all depths find room, those stay by which the schedule saves most: of depths d₁ < d₂ < … a step that begins at
/// layer ℓ is saved the largest dⱼ ≤ ℓ, so that all of them save Σⱼ (dⱼ - dⱼ₋₁) · #{steps: ℓ ≥ dⱼ} layers. They are ranked by
/// what each adds to this sum after those before it.
#[derive(Debug, Clone)]
pub struct PrefixCache {
    /// Bytes that it may hold.
    cap: usize,
    /// The width of a state; 0 before the first.
    d: usize,
    /// The dearest first.
    depths: Vec<Depth>,
    used: PrefixUse,
}

/// What is kept of one depth.
#[derive(Debug, Clone)]
struct Depth {
    /// The layer into which the states go.
    layer: usize,
    /// Steps to come that begin at this layer or above.
    steps: usize,
    /// By sample, [tokens, d].
    states: BTreeMap<usize, Box<[f32]>>,
}

/// How much a [`PrefixCache`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PrefixUse {
    /// Times that a sample's states were there.
    pub hits: usize,
    /// Layers that did not have to be run for them, each counted once for each sample.
    pub saved: usize,
    /// Layers below the lowest active one, counted alike: those saved and those run.
    pub layers: usize,
    /// Bytes that it holds.
    pub bytes: usize,
    /// The most bytes that it held.
    pub most_bytes: usize,
}

impl PrefixUse {
    /// What was done since `before`; the bytes are those of now.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            hits: self.hits - before.hits,
            saved: self.saved - before.saved,
            layers: self.layers - before.layers,
            ..self
        }
    }
}

impl PrefixCache {
    /// An empty one of at most `cap` bytes, for steps that begin at these layers: the lowest that has an adapter on, or the
    /// number of layers where none has.
    pub fn new(cap: usize, lowest: &[usize]) -> Self {
        let top = lowest.iter().max().map_or(0, |top| top + 1);
        // Steps that begin at each layer or above; none begins above the last of them.
        let mut steps = vec![0; top + 1];
        for &layer in lowest {
            steps[..=layer].iter_mut().for_each(|steps| *steps += 1);
        }
        let mut depths: Vec<Depth> = Vec::new();
        loop {
            let gain = |layer: usize| {
                let below = depths.iter().map(|depth| depth.layer);
                let below = below.filter(|&depth| depth <= layer).max().unwrap_or(0);
                let above = depths.iter().map(|depth| depth.layer);
                let above = above.filter(|&depth| depth > layer).min().unwrap_or(top);
                (layer - below) * (steps[layer] - steps[above])
            };
            let best = (1..top).max_by_key(|&layer| gain(layer));
            let Some(layer) = best.filter(|&layer| gain(layer) > 0) else {
                break;
            };
            depths.push(Depth {
                layer,
                steps: steps[layer],
                states: BTreeMap::new(),
            });
        }
        Self {
            cap,
            d: 0,
            depths,
            used: PrefixUse::default(),
        }
    }

    /// What it has done so far.
    pub fn used(&self) -> PrefixUse {
        self.used
    }

    /// The states that go into layer number `layer` of a batch, below which no adapter is on. `rows` are the samples of each
    /// row, as [`Task::batch`](crate::Task::batch) took them.
    ///
    /// # Panics
    /// For a model that cannot [`resume`](Layered::resume); if `rows` are not those of the batch.
    pub fn enter(
        &mut self,
        model: &Model,
        input: &Input,
        rows: &[Vec<usize>],
        layer: usize,
    ) -> Hidden {
        self.used.layers += layer * rows.iter().map(Vec::len).sum::<usize>();
        self.reach(model, input, rows, layer)
    }

    /// A step is over that began at layer `lowest`: what no step to come needs is dropped.
    pub fn done(&mut self, lowest: usize) {
        let begun = |depth: &&mut Depth| depth.layer <= lowest;
        for depth in self.depths.iter_mut().filter(begun) {
            depth.steps = depth.steps.saturating_sub(1);
            if depth.steps == 0 {
                self.used.bytes -= depth
                    .states
                    .values()
                    .map(|s| size_of_val(&**s))
                    .sum::<usize>();
            }
        }
        self.depths.retain(|depth| depth.steps > 0);
    }

    fn reach(&mut self, model: &Model, input: &Input, rows: &[Vec<usize>], layer: usize) -> Hidden {
        let Some(below) = layer.checked_sub(1) else {
            return model.embed(input);
        };
        let known = self.known(layer, rows);
        if known.is_empty() {
            let hidden = self.reach(model, input, rows, below);
            let hidden = model.layer(below, hidden, &Pass::base());
            self.keep(layer, input, rows, &hidden);
            return hidden;
        }
        let hits: usize = known.iter().map(|&row| rows[row].len()).sum();
        self.used.hits += hits;
        self.used.saved += hits * layer;
        let mut states = self.restore(layer, input, rows, &known);
        let missing: Vec<usize> = (0..rows.len()).filter(|row| !known.contains(row)).collect();
        if !missing.is_empty() {
            let samples: Vec<Vec<usize>> = missing.iter().map(|&row| rows[row].clone()).collect();
            let hidden = self.reach(model, &input.select(&missing), &samples, layer);
            let size = states.len() / rows.len();
            let made = floats(hidden.states);
            for (&row, made) in missing.iter().zip(made.chunks_exact(size)) {
                states[row * size..][..size].copy_from_slice(made);
            }
        }
        let positions = states.len() / self.d;
        let states = TensorData::new(states, [positions, self.d]);
        let states = Tensor::from_data(states, &input.device().without_autodiff());
        let hidden = model.resume(states, input);
        hidden.expect("a model whose states are one tensor")
    }

    /// The rows whose samples are all there.
    fn known(&self, layer: usize, rows: &[Vec<usize>]) -> Vec<usize> {
        let Some(depth) = self.depths.iter().find(|depth| depth.layer == layer) else {
            return Vec::new();
        };
        let there = |row: &usize| {
            rows[*row]
                .iter()
                .all(|sample| depth.states.contains_key(sample))
        };
        (0..rows.len()).filter(there).collect()
    }

    /// The states of a batch with those of the known rows filled in, padding and all others 0.
    fn restore(
        &self,
        layer: usize,
        input: &Input,
        rows: &[Vec<usize>],
        known: &[usize],
    ) -> Vec<f32> {
        let depth = self.depths.iter().find(|depth| depth.layer == layer);
        let states = &depth.expect("a depth with known rows").states;
        let size = match input {
            Input::Tokens(batch) => batch.ids.dims()[1] * self.d,
            // Of one size, and without padding.
            Input::Images(_) => states.values().next().map_or(0, |state| state.len()),
        };
        let mut values = vec![0.0; rows.len() * size];
        for &row in known {
            let mut at = row * size;
            for sample in &rows[row] {
                let state = &states[sample];
                values[at..at + state.len()].copy_from_slice(state);
                at += state.len();
            }
        }
        values
    }

    /// Keeps what is worth it of the states that go into layer number `layer`.
    fn keep(&mut self, layer: usize, input: &Input, rows: &[Vec<usize>], hidden: &Hidden) {
        let Some(place) = self.depths.iter().position(|depth| depth.layer == layer) else {
            return;
        };
        let [_, d] = hidden.states.dims();
        self.d = d;
        let lengths = match input {
            Input::Tokens(batch) => batch.lengths(),
            Input::Images(_) => vec![vec![hidden.width]; rows.len()],
        };
        let values = floats(hidden.states.clone());
        let values = values.chunks_exact(hidden.width * d);
        for ((samples, lengths), row) in rows.iter().zip(lengths).zip(values) {
            let mut at = 0;
            for (&sample, length) in samples.iter().zip(lengths) {
                self.put(place, sample, &row[at..at + length * d]);
                at += length * d;
            }
        }
    }

    /// Keeps a sample's state, if it is new and there is room or what is worth less can go.
    fn put(&mut self, place: usize, sample: usize, state: &[f32]) {
        let size = size_of_val(state);
        if self.depths[place].states.contains_key(&sample) {
            return;
        }
        while self.used.bytes + size > self.cap {
            let mut worse = self.depths[place + 1..].iter_mut().rev();
            let Some((_, old)) = worse.find_map(|depth| depth.states.pop_last()) else {
                return;
            };
            self.used.bytes -= size_of_val(&*old);
        }
        self.used.bytes += size;
        self.used.most_bytes = self.used.most_bytes.max(self.used.bytes);
        self.depths[place].states.insert(sample, state.into());
    }
}

impl Run {
    /// What the cache of the frozen prefix did since the run was prepared; `None` where there is none, be it that none is
    /// wanted or that it would not pay.
    pub fn prefix(&self) -> Option<PrefixUse> {
        self.prefix.as_ref().map(PrefixCache::used)
    }

    /// The lowest layer that has an adapter on; the number of layers where none has.
    pub(crate) fn lowest(&self, coalition: &Coalition) -> usize {
        let lowest = Pass::new(&self.adapters, coalition).lowest_layer();
        lowest.unwrap_or(self.model.depth())
    }

    /// Makes the cache of the frozen prefix, if one is wanted and pays: where the steps to come that have a prefix go through
    /// the samples more than once.
    pub(crate) fn plan_prefix(&mut self) {
        let optim = &self.config.optim;
        if optim.prefix_cache_mib == 0 || self.prefix.is_some() {
            return;
        }
        let steps = self.state.step..optim.steps;
        let lowest: Vec<usize> = steps.map(|t| self.lowest(&self.sampler.draw(t))).collect();
        let batches = optim.accumulation * lowest.iter().filter(|&&layer| layer > 0).count();
        let epoch = self.task.epoch(optim.batch_size, self.config.seed, 0);
        if batches > epoch.len() {
            let cap = optim.prefix_cache_mib.saturating_mul(1 << 20);
            self.prefix = Some(PrefixCache::new(cap, &lowest));
        }
    }
}

/// Whether a run of this model can have the cache, if it wants one.
pub(crate) fn check(config: &RunConfig, model: &Model) -> Result<(), Error> {
    let cap = config.optim.prefix_cache_mib;
    if cap > 0 && matches!(model, Model::Clip(_)) {
        return Err(Error::Value {
            field: "optim.prefix_cache_mib",
            value: cap.to_string(),
            reason: "the two towers of CLIP have a lowest active layer each, and the cache knows one",
        });
    }
    Ok(())
}

fn floats(states: Tensor<2>) -> Vec<f32> {
    let data = states.into_data().convert::<f32>();
    data.try_into_vec().expect("converted to f32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(cache: &PrefixCache) -> Vec<usize> {
        cache.depths.iter().map(|depth| depth.layer).collect()
    }

    #[test]
    fn depths_are_ranked_by_the_layers_that_they_save_and_dropped_when_no_step_needs_them() {
        // Alone, depth 5 saves 15 layers, 2 saves 8 and 1 saves 5; beside 5, depth 2 saves 2; beside both, 1 saves 1.
        let lowest = [0, 1, 2, 5, 5, 5, 0];
        let mut cache = PrefixCache::new(100, &lowest);
        assert_eq!(layers(&cache), [5, 2, 1]);
        for (step, left) in [(5, 3), (5, 3), (5, 2), (2, 1), (0, 1), (1, 0)] {
            cache.done(step);
            assert_eq!(cache.depths.len(), left);
        }
        assert!(layers(&PrefixCache::new(100, &[0, 0])).is_empty());
        assert!(layers(&PrefixCache::new(100, &[])).is_empty());
    }

    #[test]
    fn what_is_worth_more_drives_out_what_is_worth_less() {
        let mut cache = PrefixCache::new(3 * 8, &[1, 2, 2, 2]);
        assert_eq!(layers(&cache), [2, 1]);
        for sample in 0..4 {
            cache.put(1, sample, &[0.0; 2]);
        }
        let held = |cache: &PrefixCache, place: usize| -> Vec<usize> {
            cache.depths[place].states.keys().copied().collect()
        };
        assert_eq!((held(&cache, 1), cache.used.bytes), (vec![0, 1, 2], 24));
        cache.put(0, 7, &[0.0; 3]);
        assert_eq!((held(&cache, 0), held(&cache, 1)), (vec![7], vec![0]));
        assert_eq!((cache.used.bytes, cache.used.most_bytes), (20, 24));
        cache.put(0, 8, &[0.0; 7]);
        assert_eq!(held(&cache, 0), [7]);
        cache.done(2);
        cache.done(2);
        cache.done(2);
        assert_eq!((layers(&cache), cache.used.bytes), (vec![1], 0));
    }
}
