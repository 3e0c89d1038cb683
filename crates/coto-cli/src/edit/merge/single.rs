use anyhow::{Result, bail, ensure};
use coto_merge::peft_compat::{PeftOptions, add_weighted_adapter};
use coto_merge::{Merged, Outcome, Source, aligned, fuse, merge};
use coto_peft::Folder;
use serde_json::{Value, json};

use super::Bench;

impl Bench<'_> {
    /// One method, not judged.
    pub(super) fn single(&mut self) -> Result<()> {
        let Some(out) = &self.recipe.out else {
            bail!("where does the merged adapter go? name a folder with --out")
        };
        let mut merged = self.merged()?;
        merged.folder.side = Some(self.side());
        merged.folder.save(out)?;
        if self.args.json {
            let described = serde_json::to_string_pretty(&self.described(&merged))?;
            println!("{described}");
            return Ok(());
        }
        if !merged.modules.is_empty() {
            self.tell(&merged.modules);
        }
        for remark in &merged.remarks {
            println!("note: {remark}");
        }
        println!("{}", out.display());
        Ok(())
    }

    fn merged(&mut self) -> Result<Merged> {
        let recipe = self.recipe;
        let method = &recipe.method;
        let whole = |folder| Merged {
            folder,
            modules: Vec::new(),
            remarks: Vec::new(),
        };
        if let Some(name) = method.strip_prefix("peft:") {
            return Ok(whole(self.as_peft(name)?));
        }
        self.prepare(std::slice::from_ref(method))?;
        let sources = self.sources(&self.weights);
        // The mean of the factors needs no ΔW, so it is there for every variant.
        let plain =
            recipe.options.rank.is_none() && recipe.modules.is_empty() && recipe.scale == 1.0;
        if method == "fuse" && plain {
            return Ok(whole(match recipe.align {
                true => self.fuse_aligned(&sources)?,
                false => fuse(&sources)?,
            }));
        }
        Ok(merge(&sources, &recipe.plan(method)?)?)
    }

    fn fuse_aligned(&self, sources: &[Source]) -> Result<Folder> {
        let turned = aligned(sources)?;
        let sources = sources.iter().zip(&turned);
        let sources = sources.map(|(source, folder)| Source {
            folder,
            ..source.clone()
        });
        Ok(fuse(&sources.collect::<Vec<_>>())?)
    }

    /// What PEFT's `add_weighted_adapter` makes, by a `combination_type`.
    fn as_peft(&self, name: &str) -> Result<Folder> {
        let recipe = self.recipe;
        let options = &recipe.options;
        ensure!(
            !recipe.align && recipe.scale == 1.0 && recipe.modules.is_empty(),
            "PEFT's `{name}` is one merge of the whole adapters as they are; it goes without align, scale and methods for modules"
        );
        let options = PeftOptions {
            combination_type: name.parse()?,
            svd_rank: options.rank,
            density: options.density,
            majority_sign_method: options.majority,
            seed: recipe.seed,
            ..PeftOptions::default()
        };
        let folders: Vec<&Folder> = self.opened.iter().map(|(_, folder)| folder).collect();
        Ok(add_weighted_adapter(&folders, &self.weights, &options)?)
    }

    /// What the folder tells of itself.
    fn side(&self) -> Value {
        let (names, method) = (self.names, &self.recipe.method);
        json!({
            "summary": format!("Merged from {} by {method}.", names.join(", ")),
            "merged": {"adapters": names, "weights": self.weights, "method": method},
        })
    }

    fn described(&self, merged: &Merged) -> Value {
        json!({
            "out": self.recipe.out,
            "method": self.recipe.method,
            "adapters": self.names,
            "weights": self.weights,
            "modules": merged.modules,
            "remarks": merged.remarks,
        })
    }

    fn tell(&self, modules: &[Outcome]) {
        let ranks = || modules.iter().map(|module| module.rank);
        let seconds: f64 = modules.iter().map(|module| module.seconds).sum();
        println!(
            "{} adapters, {} modules by {}, rank {} to {}, {seconds:.2} s",
            self.names.len(),
            modules.len(),
            self.recipe.method,
            ranks().min().unwrap_or(0),
            ranks().max().unwrap_or(0)
        );
        let by_error = modules.iter().max_by(|a, b| a.error.total_cmp(&b.error));
        if let Some(worst) = by_error.filter(|worst| worst.error > 0.0) {
            println!(
                "compression left out at most {:.1} % of ΔW (`{}`)",
                100.0 * worst.error,
                worst.path
            );
        }
    }
}
