use coto_peft::{Folder, HostTensor, Param};

use crate::merge::{Modules, check, read};
use crate::{Error, Source};

/// The weighted mean of every tensor, by its key: for adapters of one variant, whichever it is (LoRA, rsLoRA, DoRA, HiRA), with the
/// same modules, ranks and scales. Weights are divided by their sum.
///
/// Factors and magnitudes are averaged each for itself, so ΔW is not the mean of the ΔW: there are cross terms. The result has the
/// first adapter's configuration.
///
/// # Errors
/// [`Error::Empty`], [`Error::Duplicate`], [`Error::Weight`], also for weights whose sum is zero; [`Error::Adapter`];
/// [`Error::Unlike`] for adapters that differ in variant, modules, ranks or scales.
pub fn fuse(sources: &[Source]) -> Result<Folder, Error> {
    corresponding(sources)?;
    let total: f64 = sources.iter().map(|source| source.weight).sum();
    if total == 0.0 || !total.is_finite() {
        return Err(Error::Weight {
            of: "all adapters together".to_owned(),
            weight: total,
        });
    }
    let first = sources[0].folder;
    let mut fused = Folder::new(first.config.clone());
    for (key, tensor) in &first.tensors {
        let mut mean = vec![0.0; tensor.shape.iter().product()];
        for source in sources {
            let values = source.folder.tensors[key].to_f32()?;
            let weight = source.weight / total;
            for (to, from) in mean.iter_mut().zip(values) {
                *to += weight * f64::from(from);
            }
        }
        let mean: Vec<f32> = mean.into_iter().map(|value| value as f32).collect();
        let tensor = HostTensor::from_f32(tensor.shape.clone(), &mean)?;
        fused.tensors.insert(key.clone(), tensor);
    }
    Ok(fused)
}

/// The modules of at least one adapter, all of the first one's variant, modules, ranks and scales.
pub(crate) fn corresponding<'a>(sources: &[Source<'a>]) -> Result<Vec<Modules<'a>>, Error> {
    check(sources)?;
    let modules: Vec<Modules> = sources.iter().map(read).collect::<Result<_, _>>()?;
    for pair in sources.iter().zip(&modules).skip(1) {
        alike((&sources[0], &modules[0]), pair)?;
    }
    Ok(modules)
}

fn alike(
    (first, one_modules): (&Source, &Modules),
    (other, two_modules): (&Source, &Modules),
) -> Result<(), Error> {
    let unlike = |reason: String| Error::Unlike {
        name: other.name.clone(),
        other: first.name.clone(),
        reason,
    };
    let (one, two) = (&first.folder.config, &other.folder.config);
    let variant = |config: &coto_peft::Config| match config.use_dora {
        true => "DoRA",
        false => config.peft_type.name(),
    };
    if variant(one) != variant(two) {
        return Err(unlike(format!(
            "they are {} and {}",
            variant(two),
            variant(one)
        )));
    }
    let lacks = |a: &Source, path: &str| {
        unlike(format!(
            "adapter `{}` does not adapt module `{path}`",
            a.name
        ))
    };
    if let Some(path) = two_modules
        .keys()
        .find(|path| !one_modules.contains_key(*path))
    {
        return Err(lacks(first, path));
    }
    for (path, tensors) in one_modules {
        let others = two_modules.get(path).ok_or_else(|| lacks(other, path))?;
        for (param, tensor) in tensors {
            let shapes = (&others[param].shape, &tensor.shape);
            if shapes.0 != shapes.1 {
                return Err(unlike(different(path, param, shapes)));
            }
        }
        let scales = (two.scaling(path)?, one.scaling(path)?);
        if scales.0 != scales.1 {
            return Err(unlike(format!(
                "their scales in module `{path}` are {} and {}",
                scales.0, scales.1
            )));
        }
    }
    Ok(())
}

fn different(path: &str, param: &Param, (found, expected): (&Vec<usize>, &Vec<usize>)) -> String {
    format!(
        "{param} of module `{path}` is {found:?} and {expected:?}; merging updates takes any ranks where a variant has them"
    )
}
