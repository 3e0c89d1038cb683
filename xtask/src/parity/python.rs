//! A Python environment, and the script that runs in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../goldens");
const PACKAGES: [&str; 5] = ["torch", "transformers", "peft", "safetensors", "gguf"];

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

    /// A script of `goldens/`.
    pub fn script(&self, name: &'static str) -> Script<'_> {
        Script { python: self, name }
    }
}

/// A script with verbs.
pub struct Script<'a> {
    python: &'a Python,
    name: &'static str,
}

impl Script<'_> {
    /// Runs a verb.
    pub fn run(&self, verb: &str, folders: &[&Path]) -> Result<()> {
        let mut command = Command::new(&self.python.0);
        let path = Path::new(SCRIPTS).join(self.name);
        command
            .args(["-W", "ignore"])
            .arg(path)
            .arg(verb)
            .args(folders);
        run(command.env("HF_HUB_OFFLINE", "1")).map(|_| ())
    }

    /// A text that the script has under a name.
    pub fn constant(&self, name: &str) -> Result<String> {
        let mut command = Command::new(&self.python.0);
        let module = self.name.trim_end_matches(".py");
        let program = format!("import sys, {module}; sys.stdout.write({module}.{name})");
        run(command.args(["-B", "-c", &program]).current_dir(SCRIPTS))
    }
}

/// Runs a program; returns what it printed.
fn run(command: &mut Command) -> Result<String> {
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
    Ok(String::from_utf8(done.stdout)?)
}
