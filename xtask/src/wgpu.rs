//! `wgpu`: the goldens and a scheduled run on wgpu, here by Mesa's software Vulkan driver.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Where Vulkan loaders look for drivers.
const DRIVERS: &str = "/usr/share/vulkan/icd.d";
const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];
/// The crates whose integration tests know of devices.
const CRATES: [&str; 2] = ["coto-models", "coto-train"];

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Use the machine's own Vulkan driver, not the software one.
    #[arg(long)]
    gpu: bool,
}

/// Installs the software driver where it is missing, then builds and runs the suite.
pub fn run(args: &Args) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--release", "--target-dir", "target/wgpu"]);
    for name in CRATES {
        command.args(["--package", name, "--features", &format!("{name}/wgpu")]);
    }
    command.args(["--test", "goldens", "--test", "runs"]);
    // A test binary of one thread: kernels compile once, and a software driver is no place for races.
    command.args(["--", "--test-threads", "1"]);
    if !args.gpu {
        command.env("VK_DRIVER_FILES", driver()?);
    }
    let status = command.env("COTO_TEST_DEVICE", "wgpu").status()?;
    ensure!(status.success(), "the suite does not pass on wgpu");
    Ok(())
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

/// The manifest of Mesa's `lavapipe`, installed first if need be.
fn driver() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    eprintln!("installing {}", PACKAGES.join(" and "));
    for verb in ["update", "install"] {
        let mut command = Command::new("apt-get");
        command.args([verb, "--yes", "--quiet"]);
        if verb == "install" {
            command.args(PACKAGES);
        }
        let status = command
            .status()
            .context("no `apt-get` to install a software Vulkan driver with")?;
        ensure!(status.success(), "`apt-get {verb}` failed; are you root?");
    }
    match find() {
        Some(found) => Ok(found),
        None => bail!("{} left no lvp_icd*.json in {DRIVERS}", PACKAGES[0]),
    }
}

fn find() -> Option<PathBuf> {
    let entries = Path::new(DRIVERS).read_dir().ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("lvp_icd") && name.ends_with(".json"))
    })
}
