//! The comparisons of a decoder from a GGUF file, dense and as it is quantised.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, activation};
use coto_adapters::{AdapterConfig, AdapterSet, Base, Pass};
use coto_coalition::Grouping;
use coto_gguf::Gguf;
use coto_models::{BaseQuant, Layered, Llama, TokenBatch};
use coto_peft::Folder;

use super::checks::{perturb, same};
use super::python::Script;
use super::table::{Row, Table};
use super::tensors::{distance, read, values};

/// The most that a logit may differ.
const LIMIT: f32 = 1e-3;

/// Runs both sides.
pub fn compare(script: &Script, gguf: &Path, work: &Path) -> Result<Table> {
    script.run("reference", &[gguf, work])?;
    let mut table = Table::default();
    table.push(weights(gguf, work)?);
    let device = Device::flex();
    let quantised = Llama::load(gguf, &device)?;
    let dense = Llama::load_as(gguf, BaseQuant::None, &device)?;
    ensure!(
        quantised.bytes() < dense.bytes() / 2,
        "the file is not quantised"
    );
    let matrices = |model: &Llama| -> Vec<Tensor<2>> {
        let linears = (0..model.modules().len()).map(|i| model.linear(i).frozen());
        linears
            .chain(model.tables())
            .map(|weight| weight.dense())
            .collect()
    };
    let mut differing = 0;
    for (a, b) in matrices(&quantised).iter().zip(&matrices(&dense)) {
        differing += usize::from(distance(a, b)? != 0.0);
    }
    table.push(same(
        "quantised as dequantised: matrices".to_owned(),
        differing,
    ));

    let ids = read(&work.join("inputs.safetensors"))?
        .remove("ids")
        .context("no ids")?;
    let ids: Vec<u32> = values(ids)?.into_iter().map(|v| v as u32).collect();
    let tokenizer = coto_data::LanguageTokenizer::load(gguf)?;
    let text = script.constant("TEXT")?;
    let wrong = usize::from(tokenizer.encode(&text, true)? != ids);
    table.push(same("tokens of the text".to_owned(), wrong));

    let golden = read(&work.join("logits.safetensors"))?;
    let golden = |name: &str| {
        golden
            .get(name)
            .with_context(|| format!("no logits `{name}`"))
    };
    let ours = AdapterConfig::lora(8, 16.0).targets(["q_proj", "v_proj"]);
    let mut ours = AdapterSet::new(&quantised, &ours, &Grouping::Layer, 1)?;
    perturb(&mut ours, 0.03, 1);
    ours.to_folder()?.save(work.join("ours"))?;
    script.run("ours", &[gguf, work])?;
    let there = read(&work.join("ours.safetensors"))?
        .remove("logits")
        .context("no logits")?;
    for (name, model) in [("quantised", &quantised), ("dense", &dense)] {
        let base = logits(model, &ids, &Pass::base());
        println!("{name}: {:.3} nats a token", nats(&base, &ids));
        table.push(Row {
            what: format!("{name}: logits"),
            moved: None,
            differs: distance(&base, golden("base")?)?,
            limit: LIMIT,
        });
        for (what, folder, there) in [
            ("PEFT's read here", "theirs", golden("theirs")?),
            ("PEFT reads ours", "ours", &there),
        ] {
            let set = Folder::load(work.join(folder))?;
            let set = AdapterSet::from_folder(model, &set, &Grouping::Layer)?;
            let here = logits(model, &ids, &Pass::new(&set, &set.grand()));
            table.push(Row {
                what: format!("{name}: {what}"),
                moved: Some(distance(&here, &base)?),
                differs: distance(&here, there)?,
                limit: LIMIT,
            });
        }
    }
    Ok(table)
}

/// Every tensor of the file against what the gguf package makes of it.
fn weights(gguf: &Path, work: &Path) -> Result<Row> {
    let file = Gguf::open(gguf)?;
    let golden = read(&work.join("weights.safetensors"))?;
    ensure!(
        golden.len() == file.tensors().len(),
        "another number of tensors"
    );
    let mut differing = 0;
    for tensor in file.tensors() {
        let there = golden
            .get(tensor.name())
            .context("a tensor that Python does not know")?;
        differing += usize::from(tensor.dequantise()? != values(there.clone())?);
    }
    Ok(same(format!("gguf: {} tensors", golden.len()), differing))
}

fn logits(model: &Llama, ids: &[u32], pass: &Pass) -> Tensor<2> {
    let (len, device) = (ids.len(), Device::flex());
    let batch = TokenBatch::new(ids, &vec![0; len], &vec![true; len], 1, &device);
    model.logits(model.states(&batch, pass))
}

/// The mean loss of the tokens after the first.
fn nats(logits: &Tensor<2>, ids: &[u32]) -> f64 {
    let log = activation::log_softmax(logits.clone(), 1);
    let token = |at: usize| {
        let token = ids[at] as usize;
        log.clone()
            .slice([at - 1..at, token..token + 1])
            .into_scalar::<f32>()
    };
    let sum: f64 = (1..ids.len()).map(|at| f64::from(token(at))).sum();
    -sum / (ids.len() - 1) as f64
}
