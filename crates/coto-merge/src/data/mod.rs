//! Methods that need data, and what they share.

mod fisher;
mod regmean;
mod search;
mod zip;

pub use fisher::Fisher;
pub use regmean::RegMean;
pub use search::{Found, SearchOptions, search};
pub use zip::Zip;

use coto_lowrank::faer::Mat;
use coto_lowrank::{LowRank, Statistics};

use crate::{Error, Part, Parts};

fn refused(parts: &Parts, reason: String) -> Error {
    let module = parts.path.to_owned();
    Error::Refused { module, reason }
}

/// The statistics of a part, without which `method` cannot be.
fn statistics<'a>(parts: &Parts, part: &Part<'a>, method: &str) -> Result<&'a Statistics, Error> {
    part.statistics.ok_or_else(|| {
        let adapter = part.adapter;
        let reason = format!(
            "{method} needs to see the module's inputs under adapter {adapter}: give calibration data"
        );
        refused(parts, reason)
    })
}

/// The module's inputs under a part's adapter, [samples, in].
fn inputs(parts: &Parts, part: &Part, method: &str) -> Result<Mat<f64>, Error> {
    let inputs = &statistics(parts, part, method)?.inputs;
    let (samples, input) = (inputs.rows(), inputs.cols());
    let [_, expected] = part.update.dims();
    let adapter = part.adapter;
    if samples == 0 || input != expected {
        let reason = format!(
            "the inputs under adapter {adapter} are [{samples}, {input}], not [samples, {expected}]"
        );
        return Err(refused(parts, reason));
    }
    if inputs.values().iter().any(|x| !x.is_finite()) {
        let reason = format!("inputs under adapter {adapter} are not finite");
        return Err(refused(parts, reason));
    }
    Ok(inputs.to_f64())
}

/// The weights, of which only the ratios count: all above 0.
fn importance(parts: &Parts, method: &str) -> Result<Vec<f64>, Error> {
    if parts.parts.is_empty() {
        return Err(Error::Empty);
    }
    for part in &parts.parts {
        let (weight, adapter) = (part.weight, part.adapter);
        if !(weight > 0.0 && weight.is_finite()) {
            let reason = format!(
                "weight {weight} of adapter {adapter}: {method} weighs its data, by a number above 0"
            );
            return Err(refused(parts, reason));
        }
    }
    let sum: f64 = parts.parts.iter().map(|part| part.weight).sum();
    Ok(parts.parts.iter().map(|part| part.weight / sum).collect())
}

/// All updates' factors: the A stacked, [Σ r, in], and the B side by side, [out, Σ r].
fn stacked(parts: &Parts) -> Result<LowRank, Error> {
    let updates: Vec<(&LowRank, f64)> = parts.parts.iter().map(|p| (&p.update, 1.0)).collect();
    Ok(LowRank::sum(&updates)?)
}

fn not_negative(parts: &Parts, name: &str, value: f64) -> Result<(), Error> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    let reason = format!("{name} {value}: it must be a finite number of at least 0");
    Err(refused(parts, reason))
}

#[cfg(test)]
mod tests;
