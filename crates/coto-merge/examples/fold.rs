//! Folds an adapter into a base checkpoint: `cargo run -p coto-merge --example fold BASE ADAPTER OUT`.

use coto_merge::fold::fold;
use coto_peft::Folder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, adapter, out] = &arguments[..] else {
        return Err("usage: fold BASE ADAPTER OUT".into());
    };
    let report = fold(base, &[(&Folder::load(adapter)?, 1.0)], out)?;
    println!(
        "{} of {} tensors folded, {:.1} MB in {:.1} s; rounding changes a tensor by at most {:.1e} and takes {:.1e} of its update",
        report.folded.len(),
        report.tensors,
        report.bytes as f64 / 1e6,
        report.seconds,
        report.drift,
        report.lost
    );
    Ok(())
}
