use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::Error;
use crate::figures::{self, Curve, window};
use crate::html;
use crate::read::Run;
use crate::svg::Look;
use crate::verdict::percent;

/// Writes `dir/report.html`, the page of one training run, from `dir/metrics.jsonl` and, where there is one, `dir/adapter/coto.json`,
/// and returns its path.
///
/// # Errors
/// A file that is missing, unreadable, malformed or without steps, and a page that cannot be written.
pub fn run(dir: &Path) -> Result<PathBuf, Error> {
    let run = Run::read(dir)?;
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let name = whole
        .file_name()
        .map_or("run".into(), |name| name.to_string_lossy());
    let curve = [Curve {
        label: String::new(),
        look: Look { line: 0, mark: 0 },
        run: &run,
    }];

    let mut body = html::paragraph("headline", &headline(&run));
    body += &html::paragraph("note", &speed(&run));
    body += "<h2>Training</h2>\n";
    body += &figures::loss(&curve);
    body += &figures::learning_rate(&run);
    let evaluated = figures::validation_loss(&run) + &figures::accuracy(&curve);
    if !evaluated.is_empty() {
        body += "<h2>Validation</h2>\n";
        body += &evaluated;
    }
    let active = figures::activation("active", "Activation", &run);
    if !active.is_empty() {
        body += "<h2>Which layers were on</h2>\n";
        body += &active;
    }
    let mut rows = Vec::new();
    flatten("", &run.settings, &mut rows);
    if !rows.is_empty() {
        body += "<h2>Settings</h2>\n";
        body += &html::table("settings", "From coto.json.", &[], &rows);
    }
    html::publish(
        dir.join("report.html"),
        &html::page(&format!("Training run {name}"), &body),
    )
}

fn headline(run: &Run) -> String {
    let wide = window(run).min(run.steps.len());
    let mean = |steps: &[_]| {
        steps
            .iter()
            .map(|step: &crate::read::Step| step.loss)
            .sum::<f64>()
            / steps.len() as f64
    };
    let (first, last) = (
        mean(&run.steps[..wide]),
        mean(&run.steps[run.steps.len() - wide..]),
    );
    let mut out = format!(
        "{} steps: the training loss went from {first:.3} to {last:.3}",
        run.steps.len()
    );
    if wide > 1 {
        out += &format!(" (means over the first and last {wide} steps)");
    }
    out += ".";
    if let Some(eval) = run.evals.last() {
        out += &format!(
            " Last evaluation, after {} steps: loss {:.3}",
            eval.step, eval.loss
        );
        out += &eval.accuracy.map_or(String::new(), |share| {
            format!(", accuracy {}", percent(share))
        });
        out += &eval.macro_f1.map_or(String::new(), |share| {
            format!(", macro F1 {}", percent(share))
        });
        out += ".";
    }
    out
}

fn speed(run: &Run) -> String {
    let mut seconds: Vec<f64> = run.steps.iter().map(|step| step.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let (total, tokens) = (
        seconds.iter().sum::<f64>(),
        run.steps.iter().map(|step| step.tokens as f64).sum::<f64>(),
    );
    let mut out = format!(
        "Median step {:.1} ms; {total:.1} s of steps in all",
        1000.0 * seconds[seconds.len() / 2]
    );
    if total > 0.0 {
        out += &format!("; {:.0} tokens a second", tokens / total);
    }
    out + "."
}

/// `{"a": {"b": 1}}` as the row `a.b | 1`.
fn flatten(prefix: &str, settings: &Map<String, Value>, rows: &mut Vec<Vec<String>>) {
    for (key, value) in settings {
        let key = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => flatten(&format!("{key}."), inner, rows),
            Value::String(text) => rows.push(vec![key, text.clone()]),
            other => rows.push(vec![key, other.to_string()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_settings_become_dotted_rows_in_their_order() {
        let settings: Map<String, Value> =
            serde_json::from_str(r#"{"seed":1,"schedule":{"preset":"coto","p0":0.1}}"#).unwrap();
        let mut rows = Vec::new();
        flatten("", &settings, &mut rows);
        assert_eq!(
            rows,
            [
                ["seed", "1"],
                ["schedule.preset", "coto"],
                ["schedule.p0", "0.1"]
            ]
        );
    }
}
