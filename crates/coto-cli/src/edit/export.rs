use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use coto_merge::fold::{Exported, Report, Target, check, export, unfold};
use serde_json::json;

use super::read;

#[derive(Debug, ClapArgs)]
pub struct ExportArgs {
    /// The folder of a finished run, or an adapter folder
    pub folder: PathBuf,
    /// For whom: `merged`, a whole checkpoint with the adapter folded in; `peft` or `vllm`, an adapter folder that they load
    #[arg(long, default_value = "merged")]
    pub target: Target,
    /// The base checkpoint: a folder or a hub id
    #[arg(long, value_name = "BASE")]
    pub into: Option<String>,
    /// Where the result goes
    #[arg(short, long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// What vLLM is started with
    #[arg(long, default_value_t = 16)]
    pub max_lora_rank: usize,
    /// Take the adapter out of the checkpoint that --into names
    #[arg(long, conflicts_with = "check")]
    pub unfold: bool,
    /// Write nothing; check that --out holds the base with the adapter folded in
    #[arg(long)]
    pub check: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &ExportArgs) -> Result<()> {
    let (_, folder) = read(&args.folder)?;
    let base = match &args.into {
        Some(base) => Some(coto_models::locate(base.as_ref())?),
        None if args.check || args.unfold || args.target == Target::Merged => {
            bail!("name the base checkpoint with --into")
        }
        None => None,
    };
    let base = base.as_deref();
    if args.check {
        let base = base.context("named above")?;
        let checked = check(base, &args.out, &[(&folder, 1.0)])?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&checked)?);
        } else {
            println!(
                "{} of {} tensors adapted; largest relative drift {:.2e}; {} numbers differ in bits from what fold writes",
                checked.folded, checked.tensors, checked.drift, checked.other_bits
            );
        }
        return Ok(());
    }
    let done = match args.unfold {
        true => {
            let base = base.context("named above")?;
            Exported::Checkpoint(unfold(base, &[(&folder, 1.0)], &args.out)?)
        }
        false => export(&folder, args.target, base, args.max_lora_rank, &args.out)?,
    };
    match done {
        Exported::Adapter { rank } if args.json => println!("{}", json!({ "rank": rank })),
        Exported::Adapter { rank } => println!("rank {rank}"),
        Exported::Checkpoint(report) if args.json => {
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Exported::Checkpoint(report) => print(&report),
    }
    if !args.json {
        println!("{}", args.out.display());
    }
    Ok(())
}

fn print(report: &Report) {
    println!(
        "{} of {} tensors changed, {:.1} MB written in {:.1} s",
        report.folded.len(),
        report.tensors,
        report.bytes as f64 / 1e6,
        report.seconds
    );
    let by_drift = report
        .folded
        .iter()
        .max_by(|a, b| a.drift.total_cmp(&b.drift));
    if let Some(most) = by_drift {
        println!(
            "rounding to {} changes a weight by at most {:.2e} of its size (`{}`), an update by at most {:.2e}",
            most.dtype, report.drift, most.tensor, report.lost
        );
    }
}
