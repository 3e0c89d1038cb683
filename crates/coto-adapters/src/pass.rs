use std::fmt;

use burn::tensor::{Tensor, TensorData};
use coto_coalition::{Coalition, stream_at};
use rand::RngExt;

use crate::{Adapter, AdapterSet, FrozenLinear};

/// Which draws dropout makes: a pure function of seed and step, so that a resumed run repeats them.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The run's seed.
    pub seed: u64,
    /// The number of this forward pass in the run.
    pub pass: u64,
}

type Hear<'a> = &'a dyn Fn(&Adapter, &Tensor<2>);

/// One forward pass: which adapters run.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    adapters: Option<(&'a AdapterSet, &'a Coalition)>,
    dropout: Option<Dropout>,
    hear: Option<Hear<'a>>,
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("adapters", &self.adapters)
            .field("dropout", &self.dropout)
            .finish_non_exhaustive()
    }
}

impl<'a> Pass<'a> {
    /// The base model alone.
    pub fn base() -> Self {
        Self {
            adapters: None,
            dropout: None,
            hear: None,
        }
    }

    /// The model with the adapters of a coalition on, without dropout.
    ///
    /// # Panics
    /// If the coalition is of another number of players.
    pub fn new(adapters: &'a AdapterSet, coalition: &'a Coalition) -> Self {
        assert_eq!(
            adapters.players().len(),
            coalition.players(),
            "a coalition of other players"
        );
        Self {
            adapters: Some((adapters, coalition)),
            dropout: None,
            hear: None,
        }
    }

    /// With the adapters' input dropout.
    pub fn with_dropout(self, dropout: Dropout) -> Self {
        Self {
            dropout: Some(dropout),
            ..self
        }
    }

    /// With somebody who hears what goes into the module of each adapter that is on, [rows, in], before any dropout.
    pub fn heard_by(self, hear: &'a dyn Fn(&Adapter, &Tensor<2>)) -> Self {
        Self {
            hear: Some(hear),
            ..self
        }
    }

    /// The lowest layer that has an adapter on; `None` where none has. What is outside of the layers counts as below them.
    pub fn lowest_layer(&self) -> Option<usize> {
        let (set, on) = self.adapters?;
        let modules = set.modules().iter().enumerate();
        let active = modules.filter(|(adapter, _)| on.contains(set.players().player_of(*adapter)));
        active.map(|(_, module)| module.layer.unwrap_or(0)).min()
    }

    /// A linear of the model, with its adapter where one is on. An adapter that is off computes nothing.
    ///
    /// # Shapes
    /// [rows, in] → [rows, out].
    pub fn linear(&self, base: &FrozenLinear, x: Tensor<2>) -> Tensor<2> {
        let active = self
            .adapters
            .and_then(|(set, on)| set.active(base.module(), on));
        match active {
            None => base.forward(x),
            Some(adapter) => {
                if let Some(hear) = self.hear {
                    hear(adapter, &x);
                }
                let dropped = self
                    .dropout
                    .filter(|_| adapter.dropout > 0.0)
                    .map(|dropout| drop(x.clone(), adapter.dropout, dropout, adapter.path()));
                adapter.forward(x, dropped, base)
            }
        }
    }
}

/// Inverted dropout: each element is kept with probability 1 - p and divided by it.
fn drop(x: Tensor<2>, p: f64, dropout: Dropout, path: &str) -> Tensor<2> {
    let dims = x.dims();
    let mut draws = stream_at(dropout.seed, &format!("dropout/{path}"), dropout.pass);
    let keep = (1.0 - p).recip() as f32;
    // The share of u32 values that drops: one draw an element, on the host, alike on every backend.
    let below = (p * f64::from(u32::MAX)) as u32;
    let draw = |_| {
        if draws.random::<u32>() < below {
            0.0
        } else {
            keep
        }
    };
    let mask: Vec<f32> = (0..dims[0] * dims[1]).map(draw).collect();
    let device = x.device().without_autodiff();
    x * Tensor::from_data(TensorData::new(mask, dims), &device)
}
