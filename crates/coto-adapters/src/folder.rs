//! Adapter sets as PEFT folders and back.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use coto_coalition::Grouping;
use coto_peft::{Config, Folder, HostTensor, ParamKey, PeftType, Targets};
use serde_json::Value;

use crate::{Adapter, AdapterSet, Axis, Base, Error, FactorSpec, Variant, Variants};

impl AdapterSet {
    /// The set as a PEFT folder.
    ///
    /// PiSSA and OLoRA become plain LoRA of twice the rank, [A, A₀] and [B; -B₀] as PEFT's own conversion has it, so that
    /// the folder fits the untouched base.
    ///
    /// # Errors
    /// [`Error::Peft`] where a tensor cannot be named.
    pub fn to_folder(&self) -> Result<Folder, Error> {
        let doubled = self.adapters.iter().any(Adapter::has_origin);
        let mut folder = Folder::new(if doubled {
            double(&self.config)
        } else {
            self.config.clone()
        });
        // PEFT, too, writes what `all-linear` came to: on another class of the same model it would mean more.
        if folder.config.target_modules == Some(Targets::AllLinear) {
            let paths = self.adapters.iter().map(|adapter| adapter.path.clone());
            folder.config.target_modules = Some(Targets::List(paths.collect()));
        }
        for adapter in &self.adapters {
            let (a, b) = adapter.low_rank();
            let others = adapter.factors[2..adapter.variant.factors().len()]
                .iter()
                .cloned();
            for (spec, tensor) in adapter
                .variant
                .factors()
                .iter()
                .zip([a, b].into_iter().chain(others))
            {
                let key: ParamKey =
                    format!("base_model.model.{}.{}", adapter.path, spec.name).parse()?;
                folder.insert(&key.module, key.param, to_host(spec, tensor)?);
            }
        }
        Ok(folder)
    }

    /// The set of a PEFT folder, on its base model.
    ///
    /// # Errors
    /// For a folder that contradicts itself or the model; see [`Error`].
    pub fn from_folder(
        base: &impl Base,
        folder: &Folder,
        grouping: &Grouping,
    ) -> Result<Self, Error> {
        let variant = Variants::default().of(&folder.config)?;
        let mut adapters = folder
            .modules()?
            .iter()
            .map(|(path, params)| {
                let find = |name: &str| {
                    params
                        .iter()
                        .find(|(param, _)| param.name() == name)
                        .map(|(_, tensor)| *tensor)
                };
                loaded(base, path, &variant, &folder.config, find)
            })
            .collect::<Result<Vec<_>, _>>()?;
        adapters.sort_by_key(Adapter::module);
        Self::assemble(base, adapters, folder.config.clone(), grouping)
    }
}

fn loaded<'a>(
    base: &impl Base,
    path: &str,
    variant: &Arc<dyn Variant>,
    config: &Config,
    find: impl Fn(&str) -> Option<&'a HostTensor>,
) -> Result<Adapter, Error> {
    let paths = || base.modules().iter().map(|module| module.path.as_str());
    let module = paths()
        .position(|known| known == path)
        .ok_or_else(|| Error::NoModule {
            module: path.to_owned(),
            nearest: coto_peft::nearest(path, paths()).join(", "),
        })?;
    let linear = base.linear(module);
    let device = linear.frozen().device();
    // The tensors have the last word: PEFT writes HiRA folders whose rank_pattern is not used.
    let rank = find(variant.factors()[0].name).map_or(0, |a| a.shape[0]);
    let factors = variant
        .factors()
        .iter()
        .map(|spec| {
            let expected = spec.shape(linear.dims(), rank);
            let tensor = find(spec.name).ok_or_else(|| Error::State {
                name: format!("{path}.{}", spec.name),
            })?;
            from_host(spec, tensor, path, expected, &device)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Adapter {
        module,
        path: path.to_owned(),
        variant: variant.clone(),
        rank,
        scale: config.scaling(path)?,
        dropout: config.dropout,
        factors,
    })
}

fn is_vector(spec: &FactorSpec) -> bool {
    spec.axes[0] == Axis::One
}

fn to_host(spec: &FactorSpec, tensor: Tensor<2>) -> Result<HostTensor, Error> {
    let [rows, cols] = tensor.dims();
    let shape = if is_vector(spec) {
        vec![cols]
    } else {
        vec![cols, rows]
    };
    let stored = if is_vector(spec) {
        tensor
    } else {
        tensor.transpose()
    };
    let values = stored.into_data().convert::<f32>();
    Ok(HostTensor::from_f32(
        shape,
        values.as_slice().expect("converted to f32"),
    )?)
}

fn from_host(
    spec: &FactorSpec,
    tensor: &HostTensor,
    path: &str,
    expected: [usize; 2],
    device: &Device,
) -> Result<Tensor<2>, Error> {
    let [rows, cols] = expected;
    let stored = if is_vector(spec) {
        vec![cols]
    } else {
        vec![cols, rows]
    };
    if tensor.shape != stored {
        return Err(Error::Shape {
            module: path.to_owned(),
            key: spec.name.to_owned(),
            found: tensor.shape.clone(),
            expected: stored,
        });
    }
    let mut values = tensor.to_f32()?;
    if !is_vector(spec) {
        // Transposed here and not as a view of the tensor: products of another layout are rounded otherwise, and a set read
        // again would not repeat the outputs of the set that was saved.
        let stored = values;
        values = (0..rows * cols)
            .map(|i| stored[i % cols * rows + i / cols])
            .collect();
    }
    Ok(Tensor::from_data(
        TensorData::new(values, [rows, cols]),
        device,
    ))
}

/// Twice every rank at the same scale.
fn double(config: &Config) -> Config {
    let mut config = config.clone();
    let grow = if config.use_rslora { 2f64.sqrt() } else { 2.0 };
    config.r *= 2;
    config.lora_alpha *= grow;
    config
        .rank_pattern
        .iter_mut()
        .for_each(|(_, rank)| *rank *= 2);
    config
        .alpha_pattern
        .iter_mut()
        .for_each(|(_, alpha)| *alpha *= grow);
    debug_assert_eq!(config.peft_type, PeftType::Lora);
    config.init_weights = Value::Bool(true);
    config
}
