use std::path::{Path, PathBuf};

use crate::Error;
use crate::llama::GgufBase;

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

/// The folder of a model, or its GGUF file: a local path if there is one, then an embedded model, else the hub's copy of that
/// id.
///
/// With the feature `hub`, what the local cache lacks is downloaded, unless `HF_HUB_OFFLINE` is set.
///
/// # Errors
/// [`Error::NotFound`], which says where was looked.
pub fn locate(name: &Path) -> Result<PathBuf, Error> {
    if name.is_dir() || GgufBase::is(name) {
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
    let whole = |config: &PathBuf| {
        let mut companions = companions(config).iter();
        weights().is_some() && companions.all(|file| cached.get(file).is_some())
    };
    if let Some(config) = cached.get("config.json").filter(whole) {
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
    for file in companions(&config) {
        get(file)?;
    }
    // Large models come in shards, whose names stand in an index.
    if let Err(error) = get(WEIGHTS[0]) {
        let index = get(WEIGHTS[1]).map_err(|_| error)?;
        for shard in crate::shard::shards(&index)? {
            let name = shard.file_name().unwrap_or_default();
            get(&name.to_string_lossy())?;
        }
    }
    Ok(parent(&config))
}

/// The files that say how a model's inputs are made: of text, of images or of both.
#[cfg(feature = "hub")]
fn companions(config: &Path) -> &'static [&'static str] {
    let config = crate::config::json::<serde_json::Value>(config);
    let kind = config.ok().map(|config| config["model_type"].clone());
    match kind.as_ref().and_then(serde_json::Value::as_str) {
        Some("vit") => &["preprocessor_config.json"],
        Some("clip") => &["tokenizer.json", "preprocessor_config.json"],
        _ => &["tokenizer.json"],
    }
}

#[cfg(feature = "hub")]
fn parent(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_images_needs_no_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let needed = |config: &str| {
            std::fs::write(&path, config).unwrap();
            companions(&path)
        };
        let images = "preprocessor_config.json";
        assert_eq!(needed(r#"{"model_type":"vit"}"#), [images]);
        assert_eq!(
            needed(r#"{"model_type":"clip"}"#),
            ["tokenizer.json", images]
        );
        assert_eq!(needed(r#"{"model_type":"bert"}"#), ["tokenizer.json"]);
        assert_eq!(needed("broken"), ["tokenizer.json"]);
    }
}
