use coto_peft::nearest;

use super::FoldError;
use super::checkpoint::Checkpoint;

/// The tensor with the weight of a module.
///
/// That is `<path>.weight`; or the one tensor that ends so, where the adapter was made on a model inside the checkpoint's; or
/// the path without its first segment, where it was made on a model around it.
pub(crate) fn locate(checkpoint: &Checkpoint, module: &str) -> Result<String, FoldError> {
    let weight = format!("{module}.weight");
    if checkpoint.find(&weight).is_some() {
        return Ok(weight);
    }
    let ending = format!(".{weight}");
    let mut candidates: Vec<&str> = checkpoint
        .names()
        .filter(|name| name.ends_with(&ending))
        .collect();
    if candidates.is_empty() {
        let inner = weight.split_once('.').map(|(_, inner)| inner);
        // A lone last segment says nothing: `classifier.dense` is not any `dense`.
        let inner = inner.filter(|inner| inner.matches('.').count() > 1);
        candidates.extend(inner.filter(|inner| checkpoint.find(inner).is_some()));
    }
    match candidates[..] {
        [name] => Ok(name.to_owned()),
        [] => Err(FoldError::UnknownModule {
            nearest: nearest(&weight, checkpoint.names()),
            module: module.to_owned(),
        }),
        _ => Err(FoldError::Ambiguous {
            module: module.to_owned(),
            candidates: candidates.into_iter().map(str::to_owned).collect(),
        }),
    }
}
