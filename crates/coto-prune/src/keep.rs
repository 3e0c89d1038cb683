use std::collections::BTreeMap;

use coto_peft::{Config, Folder, OneOrMany, ParamKey};

use crate::{Error, factors};

/// The folder of the modules for whose paths `keep` says true: their tensors bit for bit, their scales as they were.
///
/// The configuration targets the modules by their whole paths, and ranks and alphas that differ are in `rank_pattern` and
/// `alpha_pattern`. Every variant can be pruned so; DoRA's magnitude goes with its module. Of all modules the folder comes back
/// as it is.
///
/// # Errors
/// [`Error::Nothing`] if no module stays; [`Error::Peft`] for a folder that contradicts itself.
pub fn keep(folder: &Folder, keep: impl Fn(&str) -> bool) -> Result<Folder, Error> {
    let modules = folder.modules()?;
    let (kept, gone): (Vec<_>, Vec<_>) = modules.iter().partition(|(path, _)| keep(path));
    if kept.is_empty() {
        return Err(Error::Nothing {
            by: "keep".to_owned(),
            of: format!("{} modules", modules.len()),
        });
    }
    if gone.is_empty() {
        return Ok(folder.clone());
    }
    let sizes = kept.iter().map(|(path, tensors)| {
        let rank = factors::of(&folder.config, tensors)[0].shape[0]; // not the pattern's: PEFT ignores HiRA's
        Ok((path.as_str(), rank, folder.config.alpha(path)?))
    });
    let sizes: Vec<_> = sizes.collect::<Result<_, coto_peft::Error>>()?;
    let config = resized(
        &folder.config,
        &sizes,
        gone.iter().map(|(path, _)| path.as_str()),
    );
    let stays = |key: &str| -> Result<bool, Error> {
        let key: ParamKey = key.parse()?;
        Ok(kept.iter().any(|(path, _)| **path == key.module))
    };
    let mut tensors = BTreeMap::new();
    for (key, tensor) in &folder.tensors {
        if stays(key)? {
            tensors.insert(key.clone(), tensor.clone());
        }
    }
    checked(Folder {
        config,
        tensors,
        side: folder.side.clone(),
    })
}

/// The configuration for modules of these ranks and alphas, the others gone. It targets what it did where none is.
pub(crate) fn resized<'a>(
    own: &Config,
    kept: &[(&str, usize, f64)],
    gone: impl Iterator<Item = &'a str>,
) -> Config {
    let mut config = own.for_modules(kept);
    let mut gone = gone.peekable();
    if gone.peek().is_none() {
        config.target_modules = own.target_modules.clone();
        config.exclude_modules = own.exclude_modules.clone();
        config.layers_to_transform = own.layers_to_transform.clone();
        config.layers_pattern = own.layers_pattern.clone();
    }
    exclude(&mut config, kept.iter().map(|(path, ..)| *path), gone);
    config
}

/// Excludes those of the pruned modules that the kept ones' whole paths would target again, as endings of longer paths.
pub(crate) fn exclude<'a, 'b>(
    config: &mut Config,
    kept: impl Iterator<Item = &'a str> + Clone,
    gone: impl Iterator<Item = &'b str>,
) {
    let ends = |path: &str, end: &str| {
        path.strip_suffix(end)
            .is_some_and(|head| head.ends_with('.'))
    };
    let again = gone.filter(|path| kept.clone().any(|end| ends(path, end)));
    let again: Vec<String> = again.map(escaped).collect();
    if !again.is_empty() {
        config.exclude_modules = Some(OneOrMany::One(again.join("|")));
    }
}

fn escaped(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    let text = path.chars().map(|c| match plain(c) {
        true => c.to_string(),
        false => format!("\\{c}"),
    });
    text.collect()
}

/// The folder, if it can be read back.
pub(crate) fn checked(folder: Folder) -> Result<Folder, Error> {
    folder.modules()?;
    Ok(folder)
}
