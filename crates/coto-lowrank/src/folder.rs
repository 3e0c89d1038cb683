use std::collections::BTreeMap;

use coto_peft::{Config, Folder, HostTensor, Param, PeftType};

use crate::{Error, LowRank, Matrix};

/// The updates of a LoRA or rsLoRA folder, by module path, in order.
///
/// # Errors
/// [`Error::NotLowRank`] for DoRA and HiRA; [`Error::Peft`] for a folder that contradicts itself.
pub fn updates(folder: &Folder) -> Result<BTreeMap<String, LowRank>, Error> {
    let modules = folder.modules()?;
    let read = modules.iter().map(|(path, tensors)| {
        let update = update(&folder.config, path, tensors)?;
        Ok((path.clone(), update))
    });
    read.collect()
}

/// The update of one module of a folder's [`modules`](Folder::modules).
///
/// # Errors
/// As [`updates`].
pub fn update(
    config: &Config,
    path: &str,
    tensors: &BTreeMap<Param, &HostTensor>,
) -> Result<LowRank, Error> {
    let variant = match (config.peft_type, config.use_dora) {
        (PeftType::Lora, false) => None,
        (PeftType::Lora, true) => Some("DoRA"),
        (PeftType::Hira, _) => Some("HiRA"),
    };
    if let Some(variant) = variant {
        return Err(Error::NotLowRank {
            module: path.to_owned(),
            variant,
        });
    }
    let [a, b] = config.peft_type.factors().map(|param| tensors[&param]);
    let scale = config.scaling(path)?;
    LowRank::of(&Matrix::read(a)?, &Matrix::read(b)?, scale)
}

/// A plain LoRA folder of these updates, f32, for the base model and task of `like`, as a [`FolderBuilder`] makes it.
///
/// # Errors
/// As [`FolderBuilder::build`].
pub fn folder(like: &Folder, updates: &BTreeMap<String, LowRank>) -> Result<Folder, Error> {
    let mut builder = FolderBuilder::default();
    for (path, update) in updates {
        builder.insert(path, update)?;
    }
    builder.build(like)
}

/// A plain LoRA folder in the making: of each update only the factors in f32 are kept.
#[derive(Debug)]
pub struct FolderBuilder {
    ranks: BTreeMap<String, usize>,
    folder: Folder,
}

impl Default for FolderBuilder {
    fn default() -> Self {
        Self {
            ranks: BTreeMap::new(),
            folder: Folder::new(Config::lora(1, 1.0)),
        }
    }
}

impl FolderBuilder {
    /// Adds the update of a module, in place of an earlier one.
    ///
    /// # Errors
    /// [`Error::Peft`], of factors whose number of entries overflows.
    pub fn insert(&mut self, path: &str, update: &LowRank) -> Result<(), Error> {
        for (param, factor) in [(Param::LoraA, update.a()), (Param::LoraB, update.b())] {
            let tensor = Matrix::rounded(factor).to_tensor()?;
            self.folder.insert(path, param, tensor);
        }
        self.ranks.insert(path.to_owned(), update.rank());
        Ok(())
    }

    /// The folder, for the base model and task of `like`.
    ///
    /// Its scales are 1: alpha is the rank, and modules of another rank than most have theirs in `rank_pattern` and
    /// `alpha_pattern`. It targets what `like` does where that folder adapts the same modules, else the modules by their whole
    /// paths.
    ///
    /// # Errors
    /// [`Error::Peft`] for no module.
    pub fn build(self, like: &Folder) -> Result<Folder, Error> {
        let (ranks, own) = (self.ranks, &like.config);
        let modules: Vec<(&str, usize, f64)> = ranks
            .iter()
            .map(|(path, &rank)| (path.as_str(), rank, rank as f64))
            .collect();
        let mut config = Config::lora(own.r, own.lora_alpha).for_modules(&modules);
        config.task_type = own.task_type.clone();
        config.base_model_name_or_path = own.base_model_name_or_path.clone();
        if like.modules()?.keys().eq(ranks.keys()) {
            config.target_modules = own.target_modules.clone();
            config.exclude_modules = own.exclude_modules.clone();
            config.layers_to_transform = own.layers_to_transform.clone();
            config.layers_pattern = own.layers_pattern.clone();
        }
        for field in ["auto_mapping", "revision"] {
            if let Some(value) = own.extra.get(field) {
                config.extra.insert(field.to_owned(), value.clone());
            }
        }
        let folder = Folder {
            config,
            ..self.folder
        };
        folder.modules()?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coto_peft::Targets;

    fn tensor(rows: usize, cols: usize, start: f32) -> HostTensor {
        let values: Vec<f32> = (0..rows * cols).map(|i| start + i as f32).collect();
        HostTensor::from_f32([rows, cols], &values).unwrap()
    }

    fn lora() -> Folder {
        let mut folder = Folder::new(Config::lora(2, 6.0).targets(["q"]));
        for path in ["layers.0.q", "layers.1.q"] {
            folder.insert(path, Param::LoraA, tensor(2, 3, 1.0));
            folder.insert(path, Param::LoraB, tensor(4, 2, -1.0));
        }
        folder
    }

    #[test]
    fn a_folder_of_a_folders_updates_is_the_same_adapter_with_scales_of_one() {
        let own = lora();
        let read = updates(&own).unwrap();
        let made = folder(&own, &read).unwrap();
        assert_eq!(made.config.target_modules, own.config.target_modules);
        assert_eq!(made.config.scaling("layers.1.q").unwrap(), 1.0);
        let again = updates(&made).unwrap();
        for (path, update) in &read {
            assert_eq!(update.dense(), again[path].dense());
        }
        assert_eq!(read["layers.0.q"].dense().row(0), [-3.0, -6.0, -9.0]);
    }

    #[test]
    fn fewer_modules_and_other_ranks_are_written_down() {
        let own = lora();
        let mut read = updates(&own).unwrap();
        read.pop_first();
        let (path, update) = read.pop_first().unwrap();
        let double = LowRank::sum(&[(&update, 1.0), (&update, 1.0)]).unwrap();
        let made = folder(&own, &BTreeMap::from([(path.clone(), double)])).unwrap();
        assert_eq!(made.config.target_modules, Some(Targets::from([path])));
        assert_eq!((made.config.r, made.config.lora_alpha), (4, 4.0));
        assert!(folder(&own, &BTreeMap::new()).is_err());
    }

    #[test]
    fn variants_whose_update_needs_the_base_are_refused() {
        let mut dora = lora();
        dora.config.use_dora = true;
        for path in ["layers.0.q", "layers.1.q"] {
            let magnitude = HostTensor::from_f32([4], &[1.0; 4]).unwrap();
            dora.insert(path, Param::Magnitude, magnitude);
        }
        let error = updates(&dora).unwrap_err().to_string();
        assert!(
            error.contains("layers.0.q") && error.contains("DoRA"),
            "{error}"
        );
    }
}
