use std::path::{Path, PathBuf};

use crate::Error;

/// A file or folder among the embedded assets: under `$COTO_ASSETS`, in the `assets` of this or a parent directory, or in
/// those of the checkout that the program was built from.
pub fn find_asset(name: &Path) -> Option<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    std::env::var_os("COTO_ASSETS")
        .map(PathBuf::from)
        .into_iter()
        .chain(
            here.ancestors()
                .chain(checkout)
                .map(|dir| dir.join("assets")),
        )
        .map(|assets| assets.join(name))
        .find(|path| path.exists())
}

/// The folder of a model: a local path if there is one, then an embedded model, else the hub's copy of that id.
///
/// With the feature `hub`, what the local cache lacks is downloaded, unless `HF_HUB_OFFLINE` is set.
///
/// # Errors
/// [`Error::NotFound`], which says where was looked.
pub fn locate(name: &Path) -> Result<PathBuf, Error> {
    if name.is_dir() {
        return Ok(name.to_owned());
    }
    match find_asset(name).filter(|found| found.is_dir()) {
        Some(found) => Ok(found),
        None => fetch(hub_id(&name.to_string_lossy())),
    }
}

/// What the hub calls a model: a program without the checkout finds the embedded one there.
fn hub_id(name: &str) -> &str {
    match name {
        "all-MiniLM-L6-v2" => "sentence-transformers/all-MiniLM-L6-v2",
        name => name,
    }
}

#[cfg(not(feature = "hub"))]
fn fetch(name: &str) -> Result<PathBuf, Error> {
    let reason = "no such folder, and this build cannot fetch from the hub (feature `hub`)";
    Err(Error::NotFound {
        name: name.to_owned(),
        reason: reason.to_owned(),
    })
}

#[cfg(feature = "hub")]
fn fetch(name: &str) -> Result<PathBuf, Error> {
    use hf_hub::{Cache, Repo, api::sync::ApiBuilder};

    const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
    let not_found = |reason: String| Error::NotFound {
        name: name.to_owned(),
        reason,
    };
    let is_id = name.split('/').count() <= 2 && !name.starts_with(['.', '/']) && !name.is_empty();
    if !is_id {
        return Err(not_found("no such folder".to_owned()));
    }
    let cached = Cache::from_env().repo(Repo::model(name.to_owned()));
    let weights = || WEIGHTS.iter().find_map(|file| cached.get(file));
    let found = cached.get("config.json").zip(cached.get("tokenizer.json"));
    if let Some((config, _)) = found.filter(|_| weights().is_some()) {
        return Ok(parent(&config));
    }
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|v| !matches!(v.as_str(), "" | "0"));
    if offline {
        return Err(not_found(
            "no such folder, not in the hub's cache, and HF_HUB_OFFLINE is set".to_owned(),
        ));
    }
    let api = ApiBuilder::from_env()
        .build()
        .map_err(|e| not_found(e.to_string()))?;
    let repo = api.model(name.to_owned());
    let get = |file: &str| {
        repo.get(file)
            .map_err(|e| not_found(format!("no such folder, and the hub gave no {file}: {e}")))
    };
    let config = get("config.json")?;
    get("tokenizer.json")?;
    // Large models come in shards, whose names stand in an index.
    if let Err(error) = get(WEIGHTS[0]) {
        let index = get(WEIGHTS[1]).map_err(|_| error)?;
        for shard in crate::checkpoint::shards(&index)? {
            let name = shard.file_name().unwrap_or_default();
            get(&name.to_string_lossy())?;
        }
    }
    Ok(parent(&config))
}

#[cfg(feature = "hub")]
fn parent(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}
