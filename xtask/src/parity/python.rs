//! A Python environment, and the script that runs in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../goldens/parity.py");
const PACKAGES: [&str; 4] = ["torch", "transformers", "peft", "safetensors"];

/// An environment with what the script imports.
pub struct Python(PathBuf);

impl Python {
    /// The environment in a folder, made if the folder has none.
    pub fn ready(venv: &Path) -> Result<Self> {
        let program = venv.join("bin/python");
        if !program.exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
            let pip = ["-m", "pip", "install", "--quiet"];
            run(Command::new(&program).args(pip).args(PACKAGES))?;
        }
        Ok(Self(program))
    }

    /// The interpreter.
    pub fn program(&self) -> &Path {
        &self.0
    }

    /// Runs a verb of the script.
    pub fn script(&self, verb: &str, folders: &[&Path]) -> Result<()> {
        let mut command = Command::new(&self.0);
        command.args(["-W", "ignore", SCRIPT, verb]).args(folders);
        run(command.env("HF_HUB_OFFLINE", "1"))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    let shown = words.join(" ");
    let done = command
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(
        done.status.success(),
        "`{shown}` failed: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}
