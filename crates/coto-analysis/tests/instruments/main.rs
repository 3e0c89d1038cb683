//! The coalition tree against the whole model run coalition by coalition, and what the instruments make of it.

mod calibrate;
mod ensemble;
#[path = "../../../coto-train/tests/runs/fixture.rs"]
mod fixture;
mod folder;
mod game;
mod similarity;
mod tree;

use std::path::Path;

use burn::tensor::{Device, Distribution, Tensor};
use coto_adapters::AdapterSet;
use coto_train::{Run, RunConfig};

/// Gives every factor a value of its own, so that each adapter changes the model.
fn stirred(mut set: AdapterSet) -> AdapterSet {
    Device::flex().seed(7);
    for factor in set.factors() {
        let noise = Tensor::random(
            factor.tensor.dims(),
            Distribution::Normal(0.0, 0.2),
            &factor.tensor.device(),
        );
        *factor.tensor = factor.tensor.clone() + noise;
    }
    set
}

/// A tiny run that is trained, its adapters grouped module by module.
fn trained(dir: &Path, language: bool) -> Run {
    fixture::write(dir);
    if language {
        fixture::tell(dir);
    }
    let set = ["players=\"module\"".to_owned()];
    let config = RunConfig::load(&dir.join("run.toml"), &set).unwrap();
    let mut run = Run::prepare(&config).unwrap();
    run.train(&mut |_| {}, &|| false).unwrap();
    Run::finished(&dir.join("out"), None).unwrap()
}
