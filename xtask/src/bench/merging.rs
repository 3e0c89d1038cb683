//! `bench --merging`: merges of LoRA adapters, ours on the factors beside PEFT's and beside dense matrices in PyTorch.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::side::Side;
use crate::parity::Python;

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/merging.py");
const EXAMPLE: &str = "merging_bench";
const LAYERS: f64 = 32.0;

/// The norms of both sides' results are the same but for rounding.
const TOLERANCE: f64 = 1e-3;

/// What is merged on both sides.
struct Case {
    what: &'static str,
    /// The folders: `module` or `llama`.
    folders: &'static str,
    ours: &'static str,
    /// The other side's question, and how often it is to be counted.
    peer: &'static [(&'static str, f64)],
    /// Whether the merged updates are the same.
    same: bool,
}

const CASES: [Case; 6] = [
    Case {
        what: "one module: SVD to rank 16; dense",
        folders: "module",
        ours: "svd 16",
        peer: &[("dense-svd 16", 1.0)],
        same: true,
    },
    Case {
        what: "one module: KnOTS, TIES; dense",
        folders: "module",
        ours: "knots",
        peer: &[("dense-knots", 1.0)],
        same: true,
    },
    Case {
        what: "one module: Core Space, TIES; on factors",
        folders: "module",
        ours: "core",
        peer: &[("factors-core", 1.0)],
        same: true,
    },
    Case {
        what: "one module: Core Space, TIES; dense",
        folders: "module",
        ours: "core",
        peer: &[("dense-core", 1.0)],
        same: false,
    },
    Case {
        what: "Llama 3 8B, q k v o: cat; PEFT",
        folders: "llama",
        ours: "cat",
        peer: &[("cat", 1.0)],
        same: true,
    },
    Case {
        what: "Llama 3 8B, q k v o: svd to rank 16; PEFT, from one q and one k",
        folders: "llama",
        ours: "svd 16",
        peer: &[
            ("svd 16 model.layers.0.self_attn.q_proj", 2.0 * LAYERS),
            ("svd 16 model.layers.0.self_attn.k_proj", 2.0 * LAYERS),
        ],
        same: false, // as there is one module of each shape on that side
    },
];

/// A merge of one side.
struct Found {
    ms: f64,
    mib: f64,
    norm: f64,
}

/// Times each merge once on both sides, in fresh processes; `size` is that of the one module.
pub fn run(python: &Python, scratch: &Path, size: usize, as_json: bool) -> Result<()> {
    let ours = super::build_example("coto-merge", EXAMPLE)?;
    for (name, shape) in [
        ("module", format!("{size}x{size}")),
        ("llama", "llama".to_owned()),
    ] {
        let made = Command::new(&ours)
            .arg("make")
            .arg(scratch.join(name))
            .arg(&shape)
            .status()?;
        ensure!(made.success(), "no adapters of shape {shape}");
    }
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for case in &CASES {
        let folders = scratch.join(case.folders);
        let here = ask(Command::new(&ours).arg(&folders), case.ours)?;
        let there = theirs(python, &folders, case.peer)?;
        let (norm, other) = (here.norm, there.norm);
        if case.same && (norm - other).abs() > TOLERANCE * other {
            let what = case.what;
            faults.push(format!(
                "{what}: the merged update has norm {norm} here and {other} there"
            ));
        }
        eprintln!("{}", line(case.what, &here, &there));
        rows.push((case.what, here, there));
    }
    if as_json {
        println!("{:#}", object(&rows, size));
    } else {
        print!("{}", table(&rows, size));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn theirs(python: &Python, folders: &Path, questions: &[(&str, f64)]) -> Result<Found> {
    let mut all = Found {
        ms: 0.0,
        mib: 0.0,
        norm: 0.0,
    };
    for (question, times) in questions {
        let mut command = Command::new(python.program());
        command.args(["-W", "ignore", PEER]).arg(folders);
        let found = ask(command.env("HF_HUB_OFFLINE", "1"), question)?;
        all.ms += times * found.ms;
        all.mib = all.mib.max(found.mib);
        all.norm = found.norm;
    }
    Ok(all)
}

fn ask(command: &mut Command, question: &str) -> Result<Found> {
    let answer = Side::start(command)?.ask(question)?;
    let [ms, mib, norm] = answer[..]
        .try_into()
        .with_context(|| format!("`{question}` was answered by {answer:?}"))?;
    Ok(Found { ms, mib, norm })
}

fn line(what: &str, ours: &Found, peer: &Found) -> String {
    let times = peer.ms / ours.ms;
    format!(
        "| {what} | {:.0} ms | {:.0} ms | {times:.1} | {:.0} MiB | {:.0} MiB |",
        ours.ms, peer.ms, ours.mib, peer.mib
    )
}

fn table(rows: &[(&str, Found, Found)], size: usize) -> String {
    let mut text = format!(
        "Eight adapters of rank 16; one module is [{size}, {size}]; memory is what the merge takes beyond the adapters.\n\n\
         | merge | Rust | PyTorch | times faster | Rust | PyTorch |\n|---|---|---|---|---|---|\n"
    );
    for (what, ours, peer) in rows {
        let _ = writeln!(text, "{}", line(what, ours, peer));
    }
    text
}

fn object(rows: &[(&str, Found, Found)], size: usize) -> Value {
    let side = |found: &Found| json!({"ms": found.ms, "mib": found.mib, "norm": found.norm});
    let merges: serde_json::Map<String, Value> = rows
        .iter()
        .map(|(what, ours, peer)| {
            let row = json!({"ours": side(ours), "peer": side(peer), "ratio": ours.ms / peer.ms});
            ((*what).to_owned(), row)
        })
        .collect();
    json!({"adapters": 8, "rank": 16, "module": size, "merges": merges})
}
