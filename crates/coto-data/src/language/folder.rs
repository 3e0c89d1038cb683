use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::tokenizer::Parts;
use crate::error::{Error, shorten};

/// The names chat templates know special tokens by, which are also the keys in the files.
const SPECIAL: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// Reads a folder in the layout of Hugging Face.
pub(super) fn read(folder: &Path) -> Result<Parts, Error> {
    let path = folder.join("tokenizer.json");
    let bytes = fs::read(&path).map_err(|reason| Error::Open {
        path: path.clone(),
        reason,
    })?;
    let tokenizer =
        Tokenizer::from_bytes(bytes).map_err(|reason| fault(&path, &reason.to_string()))?;

    let mut special = BTreeMap::new();
    let mut template = None;
    // The later file has the last word.
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        let Some(object) = object(&path)? else {
            continue;
        };
        for key in SPECIAL {
            if let Some(token) = token(&path, &object, key)? {
                special.insert(key.to_owned(), token);
            }
        }
        template = self::template(&path, &object)?.or(template);
    }
    if let Some(file) = text(&folder.join("chat_template.jinja"))? {
        template = Some(file);
    }
    Ok(Parts {
        name: folder.display().to_string(),
        tokenizer,
        special,
        ends: ends(&folder.join("generation_config.json"))?,
        template,
    })
}

fn fault(path: &Path, reason: &str) -> Error {
    Error::Tokenizer {
        name: path.display().to_string(),
        reason: shorten(reason),
    }
}

/// A file that may be missing.
fn text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(reason) if reason.kind() == ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(Error::Open {
            path: path.into(),
            reason,
        }),
    }
}

fn object(path: &Path) -> Result<Option<Map<String, Value>>, Error> {
    text(path)?
        .map(|text| serde_json::from_str(&text).map_err(|reason| fault(path, &reason.to_string())))
        .transpose()
}

/// A token is written as its text, or as an object with the text as `content`.
fn token(path: &Path, object: &Map<String, Value>, key: &str) -> Result<Option<String>, Error> {
    let value = match object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(token)) => token.get("content").unwrap_or(&Value::Null),
        Some(value) => value,
    };
    match value {
        Value::String(token) => Ok(Some(token.clone())),
        _ => Err(fault(path, &format!("`{key}` is no token"))),
    }
}

/// The template, or the one named `default` of several.
fn template(path: &Path, object: &Map<String, Value>) -> Result<Option<String>, Error> {
    let named = |list: &[Value]| {
        let find = |entry: &&Value| entry["name"] == "default";
        list.iter().find(find)?["template"]
            .as_str()
            .map(str::to_owned)
    };
    match object.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(list)) => named(list).map(Some).ok_or_else(|| {
            let reason = "`chat_template` is a list without a template of the name `default`";
            fault(path, reason)
        }),
        Some(_) => Err(fault(path, "`chat_template` is neither a text nor a list")),
    }
}

/// The `eos_token_id` of a generation config: an id or several.
fn ends(path: &Path) -> Result<Vec<u32>, Error> {
    let Some(object) = object(path)? else {
        return Ok(Vec::new());
    };
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| fault(path, "`eos_token_id` is neither an id nor a list of ids"))
    };
    match object.get("eos_token_id") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
