use std::collections::BTreeMap;

use coto_lowrank::{LowRank, Matrix};
use coto_peft::{Config, HostTensor, Param, PeftType};

use super::change::Change;
use super::checkpoint::Checkpoint;
use super::float::Float;
use super::locate::locate;
use super::{Adapter, FoldError};

/// Which tensors are changed, and by what; everything that can be checked before anything is written is.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    parts: BTreeMap<String, Vec<Part<'a>>>,
    unfold: bool,
}

/// What one adapter does to a tensor.
#[derive(Debug)]
struct Part<'a> {
    module: String,
    config: &'a Config,
    tensors: BTreeMap<Param, &'a HostTensor>,
    weight: f64,
}

/// A variant's name.
pub(crate) fn variant(config: &Config) -> &'static str {
    match (config.peft_type, config.use_dora) {
        (PeftType::Hira, _) => "HiRA",
        (PeftType::Lora, true) => "DoRA",
        (PeftType::Lora, false) => "LoRA",
    }
}

impl<'a> Plan<'a> {
    pub fn fold(checkpoint: &Checkpoint, adapters: &[Adapter<'a>]) -> Result<Self, FoldError> {
        Self::new(checkpoint, adapters, false)
    }

    pub fn unfold(checkpoint: &Checkpoint, adapters: &[Adapter<'a>]) -> Result<Self, FoldError> {
        Self::new(checkpoint, adapters, true)
    }

    fn new(
        checkpoint: &Checkpoint,
        adapters: &[Adapter<'a>],
        unfold: bool,
    ) -> Result<Self, FoldError> {
        check_variants(adapters, unfold)?;
        let mut parts = BTreeMap::<String, Vec<Part>>::new();
        for &(folder, weight) in adapters {
            for (module, tensors) in folder.modules()? {
                let tensor = locate(checkpoint, &module)?;
                let part = Part {
                    module,
                    config: &folder.config,
                    tensors,
                    weight,
                };
                part.check(checkpoint, &tensor)?;
                parts.entry(tensor).or_default().push(part);
            }
        }
        Ok(Self { parts, unfold })
    }

    /// What is done to a tensor, and the path of the module whose weight it is; nothing to most.
    pub fn change(&self, tensor: &str) -> Result<Option<(&str, Change)>, FoldError> {
        let Some(parts) = self.parts.get(tensor) else {
            return Ok(None);
        };
        let change = match &parts[..] {
            [part] => part.change()?,
            parts => {
                let updates = parts.iter().map(Part::update);
                let updates: Vec<LowRank> = updates.collect::<Result<_, _>>()?;
                let ones: Vec<_> = updates.iter().map(|update| (update, 1.0)).collect();
                Change::Add(LowRank::sum(&ones)?)
            }
        };
        let change = match change {
            Change::Add(update) if self.unfold => Change::Add(update.scaled(-1.0)),
            Change::Scale(update) if self.unfold => Change::Unscale(update),
            change => change,
        };
        Ok(Some((&parts[0].module, change)))
    }
}

fn check_variants(adapters: &[Adapter], unfold: bool) -> Result<(), FoldError> {
    if adapters.is_empty() {
        return Err(FoldError::NoAdapter);
    }
    for (adapter, &(folder, weight)) in adapters.iter().enumerate() {
        if !weight.is_finite() {
            return Err(FoldError::Weight { adapter, weight });
        }
        let variant = variant(&folder.config);
        let refused = |done: &str, reason| {
            Err(FoldError::Refused {
                variant,
                done: done.to_owned(),
                reason,
            })
        };
        match variant {
            "DoRA" if unfold => {
                return refused(
                    "unfolded",
                    "the norms of the rows before folding are lost; keep the base checkpoint",
                );
            }
            "DoRA" if weight != 1.0 => {
                return refused(
                    &format!("folded with weight {weight}"),
                    "its update is not linear in the factors; use weight 1",
                );
            }
            "DoRA" | "HiRA" if adapters.len() > 1 => {
                return refused(
                    "folded together with another adapter",
                    "its update depends on the weight below it; fold them one after another",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

impl Part<'_> {
    fn factors(&self) -> [&HostTensor; 2] {
        let factors = self.config.peft_type.factors();
        factors.map(|param| self.tensors[&param])
    }

    fn check(&self, checkpoint: &Checkpoint, tensor: &str) -> Result<(), FoldError> {
        let [a, b] = self.factors();
        let expected = [b.shape[0], a.shape[1]];
        let Some((_, info)) = checkpoint.find(tensor) else {
            return Ok(()); // located just now
        };
        if Float::of(info.dtype).is_none() {
            return Err(FoldError::Dtype {
                tensor: tensor.to_owned(),
                module: self.module.clone(),
                dtype: info.dtype,
            });
        }
        if info.shape != expected {
            return Err(FoldError::Shape {
                tensor: tensor.to_owned(),
                found: info.shape.clone(),
                module: self.module.clone(),
                expected,
            });
        }
        Ok(())
    }

    fn update(&self) -> Result<LowRank, FoldError> {
        let [a, b] = self.factors();
        let scale = self.config.scaling(&self.module)? * self.weight;
        Ok(LowRank::of(&Matrix::read(a)?, &Matrix::read(b)?, scale)?)
    }

    fn change(&self) -> Result<Change, FoldError> {
        let update = self.update()?;
        Ok(match self.tensors.get(&Param::Magnitude) {
            Some(magnitude) => Change::Norm(update, magnitude.to_f32()?),
            None if self.config.peft_type == PeftType::Hira => Change::Scale(update),
            None => Change::Add(update),
        })
    }
}
