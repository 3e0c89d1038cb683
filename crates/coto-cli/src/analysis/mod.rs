//! The verbs that measure trained adapters.

mod args;
mod compare;
mod shapley;
mod sizes;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
pub use args::{BoundArgs, ConnectArgs, ShapleyArgs, SimilarityArgs, StabilityArgs};
use args::{Judging, Setting};
pub use compare::{connect, similarity};
use coto_adapters::AdapterSet;
use coto_analysis::Evaluation;
use coto_coalition::Grouping;
use coto_train::Run;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
pub use shapley::run as shapley;
pub use sizes::{bound, stability};

/// An adapter folder, and the run folder that it lies in, if it lies in one.
pub struct Place {
    pub adapter: PathBuf,
    pub run: Option<PathBuf>,
}

impl Place {
    /// Of a run folder or an adapter folder.
    pub fn of(path: &Path) -> Result<Self> {
        let is_run = |folder: &Path| folder.join("run.toml").exists();
        if is_run(path) {
            return Ok(Self {
                adapter: path.join("adapter"),
                run: Some(path.to_owned()),
            });
        }
        if !path.join("adapter_config.json").exists() {
            bail!(
                "`{}` is neither a run (it has no run.toml) nor an adapter (it has no adapter_config.json)",
                path.display()
            );
        }
        let inside = path.file_name().is_some_and(|name| name == "adapter");
        let parent = path.parent().filter(|parent| inside && is_run(parent));
        Ok(Self {
            adapter: path.to_owned(),
            run: parent.map(Path::to_owned),
        })
    }
}

/// What an instrument works on: a run, whose model and data serve, and the adapters of one folder or several.
struct Subject {
    run: Run,
    places: Vec<Place>,
}

impl Subject {
    /// The folders' adapters, on the run that is named or else on that of the first folder.
    fn open(folders: &[impl AsRef<Path>], setting: &Setting) -> Result<Self> {
        // Before the work, not after it.
        if let Some(folder) = setting.out.as_ref().and_then(|out| out.parent()) {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let places = folders.iter().map(|folder| Place::of(folder.as_ref()));
        let places = places.collect::<Result<Vec<_>>>()?;
        let own = places.first().and_then(|place| place.run.clone());
        let Some(folder) = setting.run.clone().or(own) else {
            bail!(
                "`{}` lies in no run; name one whose model and data serve with --run",
                folders[0].as_ref().display()
            )
        };
        let run = Run::finished(&folder, setting.device.as_deref())
            .with_context(|| format!("run `{}`", folder.display()))?;
        Ok(Self { run, places })
    }

    /// The adapters of folder number `i`.
    fn adapters(&self, i: usize) -> Result<AdapterSet> {
        let folder = &self.places[i].adapter;
        let adapters = self.run.adapters_of(folder);
        adapters.with_context(|| format!("adapter `{}`", folder.display()))
    }

    /// The adapters of the first folder, grouped as is asked for.
    fn grouped(&self, per: Option<&Grouping>) -> Result<AdapterSet> {
        let adapters = self.adapters(0)?;
        Ok(match per {
            Some(per) => adapters.regrouped(per)?,
            None => adapters,
        })
    }

    /// The rows to judge on.
    fn evaluation(&self, judging: &Judging) -> Result<Evaluation<'_>> {
        let evaluation = Evaluation::new(&self.run, judging.split.into())?;
        match judging.samples {
            Some(0) => bail!("--samples 0: at least 1"),
            Some(samples) => Ok(evaluation.sampled(samples, judging.seed)),
            None => Ok(evaluation),
        }
    }

    /// What every result says of where it comes from.
    fn origin(&self, kind: &str) -> Value {
        let adapters = self
            .places
            .iter()
            .map(|place| place.adapter.display().to_string());
        json!({
            "kind": kind,
            "version": env!("CARGO_PKG_VERSION"),
            "adapters": adapters.collect::<Vec<_>>(),
            "run": self.run.config().out,
            "model": self.run.config().model.name,
        })
    }

    /// [`origin`](Self::origin), of what was judged on rows.
    fn judged(&self, kind: &str, evaluation: &Evaluation, judging: &Judging) -> Value {
        let rows = json!({
            "split": evaluation.split(),
            "samples": evaluation.samples(),
            "seed": judging.seed,
        });
        merged(self.origin(kind), rows)
    }
}

/// The file that a result goes into.
fn target(folder: &Path, kind: &str, setting: &Setting) -> PathBuf {
    let own = || folder.join(format!("{kind}.json"));
    setting.out.clone().unwrap_or_else(own)
}

/// Writes a result and the page that shows it, and says what came out.
fn publish(
    folder: &Path,
    kind: &str,
    setting: &Setting,
    result: &Value,
    print: impl FnOnce(),
) -> Result<()> {
    let path = target(folder, kind, setting);
    crate::train::save(&path, result)?;
    let page = coto_report::result(&path)?;
    if setting.json {
        println!("{}", serde_json::to_string_pretty(result)?);
    } else {
        print();
        println!("{}", page.display());
    }
    Ok(())
}

/// `layer`, `module`, `kind`, or any other grouping as JSON has it.
pub fn grouping(text: &str) -> Result<Grouping, String> {
    let bare = serde_json::from_value(Value::String(text.to_owned()));
    let found = bare.or_else(|_| serde_json::from_str(text));
    found.map_err(|_| {
        format!(r#"`{text}` is none of `layer`, `module`, `kind`, `{{"chunk":2}}`, `{{"groups":{{"name":["pattern"]}}}}`"#)
    })
}

/// A progress bar over shares of the work; on a terminal only.
fn bar(name: &str) -> ProgressBar {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(1000),
        false => ProgressBar::hidden(),
    };
    let style = "{prefix:14} {bar:30} {percent} % · {eta} to go";
    bar.set_style(ProgressStyle::with_template(style).expect("a fixed template"));
    bar.set_prefix(name.to_owned());
    bar
}

/// Lets the bar show a share.
fn show(bar: &ProgressBar) -> impl Fn(f64) {
    |share| bar.set_position((1000.0 * share) as u64)
}

/// What a measurement took.
fn print_cost(result: &Value) {
    let runs = &result["layer_runs"];
    println!(
        "layer runs {} in place of {}; {:.1} s",
        runs["used"],
        runs["naive"],
        result["seconds"].as_f64().unwrap_or(f64::NAN)
    );
}

/// Two objects as one; the second one's values stay where both have a key.
fn merged(mut first: Value, second: Value) -> Value {
    if let (Value::Object(first), Value::Object(second)) = (&mut first, second) {
        first.extend(second);
    }
    first
}
