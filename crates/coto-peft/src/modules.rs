use std::collections::BTreeMap;

use crate::targets::Matcher;
use crate::{Config, Error, Folder, HostTensor, Param, ParamKey, PeftType};

type Module<'a> = BTreeMap<Param, &'a HostTensor>;

impl Folder {
    /// The tensors by module path and parameter, after every check that can be made without the base model.
    ///
    /// # Shapes
    /// A is [r, in], B is [out, r] with r the module's rank, DoRA's magnitude is `[out]`. Where a HiRA has a
    /// `rank_pattern`, the plain `r` is right too: PEFT 0.21.2 writes that.
    ///
    /// # Errors
    /// What [`Config::check_supported`] says; [`Error::Unsupported`] for an initialisation that changes the base weights;
    /// [`Error::NoTensors`], [`Error::Key`], [`Error::MissingTensor`], [`Error::UnexpectedTensor`],
    /// [`Error::NotTargeted`], [`Error::Shape`], [`Error::NotFinite`], and [`Error::Dtype`] inside [`Error::In`].
    pub fn modules(&self) -> Result<BTreeMap<String, BTreeMap<Param, &HostTensor>>, Error> {
        self.config.check_supported()?;
        self.config.check_base_untouched()?;
        let modules = self.group()?;
        if modules.is_empty() {
            return Err(Error::NoTensors);
        }
        let matcher = self
            .config
            .target_modules
            .as_ref()
            .map(|_| Matcher::new(&self.config))
            .transpose()?;
        for (path, module) in &modules {
            if matcher.as_ref().is_some_and(|matcher| !matcher.has(path)) {
                return Err(Error::NotTargeted {
                    module: path.clone(),
                    targets: self.config.targets_text(),
                });
            }
            check_shapes(&self.config, path, module)?;
        }
        self.tensors
            .iter()
            .try_for_each(|(key, tensor)| check_finite(key, tensor))?;
        Ok(modules)
    }

    fn group(&self) -> Result<BTreeMap<String, Module<'_>>, Error> {
        let params = params(&self.config);
        let mut modules = BTreeMap::<String, Module>::new();
        for (key, tensor) in &self.tensors {
            let ParamKey { module, param } = key.parse()?;
            let too_many = |reason| Error::UnexpectedTensor {
                key: key.clone(),
                reason,
            };
            if !params.contains(&param) {
                let (peft_type, dora) = (self.config.peft_type.name(), self.config.use_dora);
                return Err(too_many(format!(
                    "the configuration is {peft_type} with use_dora = {dora}"
                )));
            }
            if modules
                .entry(module)
                .or_default()
                .insert(param, tensor)
                .is_some()
            {
                return Err(too_many(format!("the module has another {param}")));
            }
        }
        for (path, module) in &modules {
            if let Some(&param) = params.iter().find(|param| !module.contains_key(param)) {
                return Err(Error::MissingTensor {
                    key: key(path, param),
                });
            }
        }
        Ok(modules)
    }
}

/// The parameters of every module of the configuration's variant: A, B and what else it has.
fn params(config: &Config) -> &'static [Param] {
    match (config.peft_type, config.use_dora) {
        (PeftType::Lora, false) => &[Param::LoraA, Param::LoraB],
        (PeftType::Lora, true) => &[Param::LoraA, Param::LoraB, Param::Magnitude],
        (PeftType::Hira, _) => &[Param::HiraA, Param::HiraB],
    }
}

fn key(path: &str, param: Param) -> String {
    ParamKey {
        module: path.to_owned(),
        param,
    }
    .to_string()
}

fn check_shapes(config: &Config, path: &str, module: &Module) -> Result<(), Error> {
    let (a, b) = (params(config)[0], params(config)[1]);
    let wrong = |param, expected| Error::Shape {
        key: key(path, param),
        found: module[&param].shape.clone(),
        expected,
    };
    let r = config.rank(path)?;
    let r = match module[&a].shape[..] {
        [rows, _] if rows == r || (config.peft_type == PeftType::Hira && rows == config.r) => rows,
        _ => return Err(wrong(a, format!("[{r}, in], since r is {r}"))),
    };
    let [out, columns] = module[&b].shape[..] else {
        return Err(wrong(b, format!("[out, {r}], since r is {r}")));
    };
    if columns != r {
        return Err(wrong(b, format!("[{out}, {r}], since r is {r}")));
    }
    match module.get(&Param::Magnitude) {
        Some(magnitude) if magnitude.shape != [out] => Err(wrong(
            Param::Magnitude,
            format!("[{out}], as B has {out} rows"),
        )),
        _ => Ok(()),
    }
}

fn check_finite(key: &str, tensor: &HostTensor) -> Result<(), Error> {
    let values = tensor
        .to_f32()
        .map_err(|error| error.at(format_args!("tensor `{key}`")))?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Error::NotFinite {
            key: key.to_owned(),
            index,
            value: values[index],
        }),
        None => Ok(()),
    }
}
