//! The comparisons.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};
use coto_adapters::{AdapterConfig, AdapterSet, Init, Pass};
use coto_coalition::{Grouping, stream};
use coto_models::{Bert, Layered, TokenBatch};
use coto_peft::Folder;
use rand::RngExt;

use super::edited;
use super::table::{Row, Table};
use super::tensors::{distance, read, values};

/// The most that a state may differ.
const LIMIT: f32 = 1e-4;

const SEED: u64 = 1;

/// Name, variant, initialisation.
const MADE: [(&str, &str, Init); 7] = [
    ("lora", "lora", Init::Kaiming),
    ("rslora", "rslora", Init::Kaiming),
    ("dora", "dora", Init::Kaiming),
    ("hira", "hira", Init::Kaiming),
    ("lora-pissa", "lora", Init::Pissa),
    ("lora-olora", "lora", Init::Olora),
    ("lora-orthogonal", "lora", Init::Orthogonal),
];

/// The states with the adapters made here, by name.
pub type Made = BTreeMap<String, Tensor<2>>;

/// The model, and the batch that both sides run.
pub struct Checks<'a> {
    bert: &'a Bert,
    work: &'a Path,
    batch: TokenBatch,
    /// Which rows of the states are tokens.
    tokens: Tensor<1, Int>,
    base: Tensor<2>,
}

impl<'a> Checks<'a> {
    /// Takes the batch that the reference ran, from the folder `work`.
    pub fn new(bert: &'a Bert, work: &'a Path) -> Result<Self> {
        let mut inputs = read(&work.join("inputs.safetensors"))?;
        let mut take = |name: &str| inputs.remove(name).with_context(|| format!("no {name}"));
        let (ids, types, mask) = (take("ids")?, take("types")?, take("mask")?);
        let rows = ids.dims()[0];
        let numbers = |matrix| -> Result<Vec<u32>> {
            Ok(values(matrix)?.into_iter().map(|v| v as u32).collect())
        };
        let mask: Vec<bool> = values(mask)?.into_iter().map(|v| v != 0.0).collect();
        let device = Device::flex();
        let batch = TokenBatch::new(&numbers(ids)?, &numbers(types)?, &mask, rows, &device);
        let tokens = mask.iter().enumerate().filter(|(_, token)| **token);
        let tokens: Vec<i32> = tokens.map(|(row, _)| row as i32).collect();
        let count = [tokens.len()];
        let mut checks = Self {
            bert,
            work,
            batch,
            tokens: Tensor::from_data(TensorData::new(tokens, count), &device),
            base: Tensor::empty([0, 0], &device),
        };
        checks.base = checks.last(&Pass::base());
        Ok(checks)
    }

    /// The base model's states at each depth, against transformers.
    pub fn hidden(&self, table: &mut Table) -> Result<()> {
        let golden = read(&self.work.join("hidden.safetensors"))?;
        for (depth, states) in self.states(&Pass::base()).iter().enumerate() {
            let golden = golden.get(&depth.to_string());
            let golden = golden.with_context(|| format!("no states at depth {depth}"))?;
            table.push(Row {
                what: match depth {
                    0 => "transformers: embeddings".to_owned(),
                    depth => format!("transformers: layer {}", depth - 1),
                },
                moved: None,
                differs: distance(states, golden)?,
                limit: LIMIT,
            });
        }
        Ok(())
    }

    /// Makes adapters with random factors, and others of such ones, as PEFT folders in `work/ours`; returns the states with each.
    pub fn make(&self) -> Result<Made> {
        let mut made = Made::new();
        for (name, variant, init) in MADE {
            let config = AdapterConfig::lora(8, 16.0)
                .variant(variant)
                .init(init)
                .targets(["query", "value", "dense"]);
            let mut set = AdapterSet::new(self.bert, &config, &Grouping::Layer, SEED)?;
            perturb(&mut set, if variant == "hira" { 0.7 } else { 0.1 }, SEED);
            set.to_folder()?.save(self.work.join("ours").join(name))?;
            made.insert(name.to_owned(), self.with(&set));
        }
        for (name, folder) in edited::folders(self.bert, self.work)? {
            folder.save(self.work.join("ours").join(&name))?;
            let set = AdapterSet::from_folder(self.bert, &folder, &Grouping::Layer)?;
            made.insert(name, self.with(&set));
        }
        Ok(made)
    }

    /// The adapters made here, in PEFT and read again.
    pub fn ours(&self, made: &Made, table: &mut Table) -> Result<()> {
        let golden = read(&self.work.join("ours.safetensors"))?;
        ensure!(golden.keys().eq(made.keys()), "PEFT read other folders");
        for (name, golden) in &golden {
            self.compare(
                format!("PEFT reads ours: {name}"),
                &made[name],
                golden,
                table,
            )?;
        }
        for name in golden.keys() {
            let (set, differing) = self.round_trip(&format!("ours/{name}"))?;
            self.compare(
                format!("ours read again: {name}"),
                &self.with(&set),
                &made[name],
                table,
            )?;
            table.push(same(format!("ours written again: {name}"), differing));
        }
        Ok(())
    }

    /// The merges that PEFT made itself, against the same made here.
    pub fn merged(&self, made: &Made, table: &mut Table) -> Result<()> {
        for (name, golden) in read(&self.work.join("merged.safetensors"))? {
            let here = made.get(&name).with_context(|| name.clone())?;
            self.compare(format!("PEFT merges alike: {name}"), here, &golden, table)?;
        }
        Ok(())
    }

    /// The adapters made by PEFT, read here.
    pub fn theirs(&self, table: &mut Table) -> Result<()> {
        for (name, golden) in read(&self.work.join("theirs.safetensors"))? {
            let (set, differing) = self.round_trip(&format!("theirs/{name}"))?;
            self.compare(
                format!("PEFT's read here: {name}"),
                &self.with(&set),
                &golden,
                table,
            )?;
            table.push(same(format!("PEFT's written again: {name}"), differing));
        }
        Ok(())
    }

    /// The set of a folder, and how many tensors are not the same, byte for byte, when it is written again.
    fn round_trip(&self, folder: &str) -> Result<(AdapterSet, usize)> {
        let folder = Folder::load(self.work.join(folder))?;
        let set = AdapterSet::from_folder(self.bert, &folder, &Grouping::Layer)?;
        let again = set.to_folder()?.tensors;
        let keys: BTreeSet<_> = folder.tensors.keys().chain(again.keys()).collect();
        let differs = |key: &&String| folder.tensors.get(*key) != again.get(*key);
        let differing = keys.into_iter().filter(differs).count();
        Ok((set, differing))
    }

    fn compare(
        &self,
        what: String,
        here: &Tensor<2>,
        there: &Tensor<2>,
        table: &mut Table,
    ) -> Result<()> {
        table.push(Row {
            what,
            moved: Some(distance(here, &self.base)?),
            differs: distance(here, there)?,
            limit: LIMIT,
        });
        Ok(())
    }

    fn with(&self, set: &AdapterSet) -> Tensor<2> {
        self.last(&Pass::new(set, &set.grand()))
    }

    fn last(&self, pass: &Pass) -> Tensor<2> {
        self.states(pass).pop().expect("the embeddings at least")
    }

    /// The tokens' states at each depth, embeddings first.
    fn states(&self, pass: &Pass) -> Vec<Tensor<2>> {
        let mut hidden = self.bert.embed(&self.batch);
        let mut states = vec![hidden.states.clone()];
        for layer in 0..self.bert.depth() {
            hidden = self.bert.layer(layer, hidden, pass);
            states.push(hidden.states.clone());
        }
        let tokens = |states: Tensor<2>| states.select(0, self.tokens.clone());
        states.into_iter().map(tokens).collect()
    }
}

/// How many things are not the same.
pub fn same(what: String, differing: usize) -> Row {
    Row {
        what,
        moved: None,
        differs: differing as f32,
        limit: 0.0,
    }
}

/// Adds a number between -width and width to each element of each factor.
pub fn perturb(set: &mut AdapterSet, width: f32, seed: u64) {
    for factor in set.factors() {
        let mut draws = stream(seed, &format!("perturb/{}", factor.name));
        let shape = factor.tensor.shape();
        let noise: Vec<f32> = (0..shape.num_elements())
            .map(|_| draws.random_range(-width..width))
            .collect();
        let noise = Tensor::from_data(TensorData::new(noise, shape), &Device::flex());
        *factor.tensor = factor.tensor.clone() + noise;
    }
}
