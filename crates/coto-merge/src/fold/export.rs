use std::path::Path;
use std::str::FromStr;

use coto_lowrank::Matrix;
use coto_peft::{Config, Folder, HostTensor, Param, PeftType};
use serde::Serialize;

use super::plan::variant;
use super::{FoldError, Report, fold};

/// The values that vLLM takes for `--max-lora-rank`.
pub const VLLM_RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];

/// For whom an adapter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// An adapter folder for PEFT.
    Peft,
    /// An adapter folder that vLLM loads.
    Vllm,
    /// A whole checkpoint with the adapter folded in.
    Merged,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "peft" => Self::Peft,
            "vllm" => Self::Vllm,
            "merged" => Self::Merged,
            _ => return Err("there are `peft`, `vllm`, `merged`".to_owned()),
        })
    }
}

/// What [`export`] wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Exported {
    /// An adapter folder, of this rank at most.
    Adapter {
        /// The largest rank of a module.
        rank: usize,
    },
    /// A checkpoint.
    Checkpoint(Report),
}

/// Writes an adapter for somebody else, to the folder `out`.
///
/// `base` is the base checkpoint's folder, which `merged` needs. `max_rank` is what vLLM is started with as `--max-lora-rank`, 16 by
/// its default.
///
/// # Errors
/// As [`fold`], [`for_vllm`] and [`Folder::save`].
pub fn export(
    adapter: &Folder,
    target: Target,
    base: Option<&Path>,
    max_rank: usize,
    out: &Path,
) -> Result<Exported, FoldError> {
    let folder = match target {
        Target::Merged => {
            let base = base.ok_or(FoldError::NoBase)?;
            let report = fold(base, &[(adapter, 1.0)], out)?;
            return Ok(Exported::Checkpoint(report));
        }
        Target::Peft => adapter.clone(),
        Target::Vllm => for_vllm(adapter, max_rank)?,
    };
    folder.save(out)?;
    let ranks = ranks(&Folder::load(out)?)?;
    Ok(Exported::Adapter {
        rank: ranks.into_iter().max().unwrap_or(0),
    })
}

/// The adapter as vLLM loads it: a LoRA or rsLoRA, of one rank and scale.
///
/// vLLM takes `r`, `lora_alpha` and `use_rslora` for all modules alike and passes over `rank_pattern` and `alpha_pattern`, so that
/// an adapter with patterns would run with wrong scales: it becomes its [`uniform`] one.
///
/// # Errors
/// [`FoldError::Vllm`] for DoRA and HiRA, and for a rank above `max_rank`, with the way out; as [`Folder::modules`].
pub fn for_vllm(adapter: &Folder, max_rank: usize) -> Result<Folder, FoldError> {
    let refused = |reason| Err(FoldError::Vllm { reason });
    let variant = variant(&adapter.config);
    if variant != "LoRA" {
        return refused(format!(
            "it has no {variant}; fold the adapter into its base (target `merged`) and serve that"
        ));
    }
    if !VLLM_RANKS.contains(&max_rank) {
        return refused(format!(
            "--max-lora-rank cannot be {max_rank}, only one of {VLLM_RANKS:?}"
        ));
    }
    let folder = uniform(adapter)?;
    let rank = folder.config.r;
    if rank <= max_rank {
        return Ok(folder);
    }
    let smaller = format!("compress the adapter to rank {max_rank}");
    refused(match VLLM_RANKS.iter().find(|&&allowed| allowed >= rank) {
        Some(allowed) => format!(
            "its rank is {rank}, above --max-lora-rank {max_rank}; start vLLM with --max-lora-rank {allowed} \
             and export for that, or {smaller}"
        ),
        None => format!(
            "its rank is {rank}, above the largest --max-lora-rank, 512; fold it into its base (target `merged`), or {smaller}"
        ),
    })
}

/// The same LoRA with one rank for all modules, the largest, and without patterns.
///
/// Factors are padded with zeros, A to [r, in] and B to [out, r], and the scales go into B, so that alpha is the rank. An
/// adapter that has no pattern stays as it is.
///
/// # Errors
/// [`FoldError::Refused`] for DoRA and HiRA; as [`Folder::modules`].
pub fn uniform(adapter: &Folder) -> Result<Folder, FoldError> {
    let own = &adapter.config;
    if own.peft_type != PeftType::Lora || own.use_dora {
        return Err(FoldError::Refused {
            variant: variant(own),
            done: "brought to one rank and scale".to_owned(),
            reason: "its scale cannot go into its factors; only those of a LoRA can",
        });
    }
    let modules = adapter.modules()?;
    if own.rank_pattern.is_empty() && own.alpha_pattern.is_empty() {
        return Ok(adapter.clone());
    }
    let rank = ranks(adapter)?.into_iter().max().unwrap_or(own.r);
    let config = Config {
        r: rank,
        lora_alpha: rank as f64,
        use_rslora: false,
        rank_pattern: Vec::new(),
        alpha_pattern: Vec::new(),
        ..own.clone()
    };
    let mut folder = Folder::new(config);
    folder.side = adapter.side.clone();
    for (path, tensors) in modules {
        let scale = own.scaling(&path)?;
        let mut put = |param: Param, rows, cols, factor: f64| -> Result<(), FoldError> {
            let tensor = tensors[&param];
            let values = tensor.to_f32()?;
            let stored = Matrix::new(tensor.shape[0], tensor.shape[1], values)?;
            let padded = Matrix::from_fn(rows, cols, |i, j| {
                let inside = i < stored.rows() && j < stored.cols();
                let value = if inside { stored.row(i)[j] } else { 0.0 };
                (f64::from(value) * factor) as f32
            });
            let tensor = HostTensor::from_f32([rows, cols], padded.values())?;
            folder.insert(&path, param, tensor);
            Ok(())
        };
        put(Param::LoraA, rank, tensors[&Param::LoraA].shape[1], 1.0)?;
        put(Param::LoraB, tensors[&Param::LoraB].shape[0], rank, scale)?;
    }
    folder.modules()?;
    Ok(folder)
}

/// The ranks of the modules.
fn ranks(folder: &Folder) -> Result<Vec<usize>, FoldError> {
    let modules = folder.modules()?;
    let ranks = modules.keys().map(|path| folder.config.rank(path));
    Ok(ranks.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coto_lowrank::updates;
    use coto_peft::Dtype;

    fn adapter(config: Config) -> Folder {
        let mut folder = Folder::new(config.targets(["q", "v"]));
        for path in ["layers.0.q", "layers.0.v"] {
            let rank = folder.config.rank(path).unwrap();
            let values =
                |count: usize| (0..count).map(|i| i as f32 / 8.0 - 1.0).collect::<Vec<_>>();
            let tensor = |shape: [usize; 2]| {
                HostTensor::from_f32(shape, &values(shape[0] * shape[1])).unwrap()
            };
            folder.insert(path, Param::LoraA, tensor([rank, 6]));
            folder.insert(path, Param::LoraB, tensor([4, rank]));
        }
        folder
    }

    fn patterned() -> Folder {
        let mut config = Config::lora(2, 3.0);
        config.use_rslora = true;
        config.rank_pattern = vec![("v".into(), 5)];
        config.alpha_pattern = vec![("q".into(), 7.0)];
        adapter(config)
    }

    #[test]
    fn an_adapter_with_patterns_becomes_one_of_one_rank_with_the_same_updates() {
        let (own, made) = (patterned(), uniform(&patterned()).unwrap());
        assert_eq!((made.config.r, made.config.lora_alpha), (5, 5.0));
        assert_eq!(made.config.target_modules, own.config.target_modules);
        for path in ["layers.0.q", "layers.0.v"] {
            assert_eq!(made.config.scaling(path).unwrap(), 1.0);
            let (one, two) = (
                &updates(&own).unwrap()[path],
                &updates(&made).unwrap()[path],
            );
            let gap = (one.b() * one.a() - two.b() * two.a()).norm_l2();
            assert!(gap < 1e-6 * one.norm(), "{gap}");
        }
        let plain = adapter(Config::lora(2, 3.0));
        assert_eq!(uniform(&plain).unwrap(), plain);
    }

    #[test]
    fn what_vllm_refuses_is_refused_with_a_way_out() {
        let place = tempfile::tempdir().unwrap();
        let mut dora = adapter(Config::lora(2, 3.0));
        dora.config.use_dora = true;
        let mut hira = Folder::new(Config::hira(2).targets(["q"]));
        for (path, param, shape) in [("q", Param::HiraA, [2, 6]), ("q", Param::HiraB, [4, 2])] {
            let tensor = HostTensor::new(Dtype::F16, shape, vec![0; 2 * shape[0] * shape[1]]);
            hira.insert(path, param, tensor.unwrap());
        }
        let large = adapter(Config::lora(17, 3.0));
        let huge = adapter(Config::lora(513, 3.0));
        for (folder, max_rank, says) in [
            (&dora, 16, "it has no DoRA; fold"),
            (&hira, 16, "it has no HiRA; fold"),
            (&large, 16, "start vLLM with --max-lora-rank 32"),
            (&large, 17, "cannot be 17"),
            (&huge, 512, "above the largest"),
            (&patterned(), 1, "its rank is 5"),
        ] {
            let out = place.path().join("out");
            let error = export(folder, Target::Vllm, None, max_rank, &out).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(!out.exists());
        }
        let error = export(&large, Target::Merged, None, 16, place.path()).unwrap_err();
        assert!(matches!(error, FoldError::NoBase));
    }

    #[test]
    fn adapters_are_written_for_peft_as_they_are_and_for_vllm_as_it_reads_them() {
        let place = tempfile::tempdir().unwrap();
        for target in ["peft", "vllm"] {
            let out = place.path().join(target);
            let written = export(&patterned(), target.parse().unwrap(), None, 8, &out).unwrap();
            assert_eq!(written, Exported::Adapter { rank: 5 });
            let config = Folder::load(&out).unwrap().config;
            assert_eq!(config.rank_pattern.is_empty(), target == "vllm");
        }
        assert!("gguf".parse::<Target>().is_err());
    }
}
