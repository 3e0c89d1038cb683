use std::path::{Path, PathBuf};

use crate::Error;
use crate::figures::{self, Curve};
use crate::html;
use crate::read::{Joined, Outcome, Run, Summary};
use crate::svg::Look;
use crate::verdict::{self, display, mean, methods, percent};

/// Writes `dir/report.html`, CoTo beside LoRA, from `dir/summary.json` and each run's `dir/<folder>/metrics.jsonl`
/// (with the players' names from `adapter/coto.json` where the folder has one), and returns its path.
///
/// # Errors
/// A file that is missing, unreadable, malformed or without runs or steps, and a page that cannot be written.
pub fn demo(dir: &Path) -> Result<PathBuf, Error> {
    let summary = Summary::read(dir)?;
    let runs = summary
        .runs
        .iter()
        .map(|run| Run::read(&dir.join(&run.folder)))
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = methods(&summary).into_iter().map(display).collect();
    let title = format!("{} on {}", names.join(" and "), summary.task);

    let mut body = html::paragraph("headline", &verdict::headline(&summary));
    body += &html::paragraph("headline", &verdict::robustness(&summary));
    body += &html::paragraph("note", &verdict::caution(&summary));
    body += "<h2>Side by side</h2>\n";
    body += &results(&summary);
    body += &html::paragraph(
        "note",
        "λ = 0.5 means equal parts of the adapters of two seeds of one method. Fusion averages the factors A and B one by one; \
         mixture averages the products ΔW. Differences of percentages are in points.",
    );
    let curves = curves(&summary, &runs);
    body += "<h2>Training</h2>\n";
    body += &figures::loss(&curves);
    body += &figures::accuracy(&curves);
    body += "<h2>Which layers were on</h2>\n";
    for (index, method) in methods(&summary).into_iter().enumerate() {
        if let Some((run, read)) = summary
            .runs
            .iter()
            .zip(&runs)
            .find(|(run, _)| run.method == method)
        {
            let title = format!("{}, seed {}", display(method), run.seed);
            body += &format!("<h3>{}</h3>\n", html::escape(&title));
            body += &figures::activation(
                &format!("active-{index}"),
                &format!("Activation of {title}"),
                read,
            );
        }
    }
    body += "<h2>Settings</h2>\n";
    body += &settings(&summary);
    html::publish(dir.join("report.html"), &html::page(&title, &body))
}

/// Line by method, mark by the seed's place within it.
fn curves<'a>(summary: &Summary, runs: &'a [Run]) -> Vec<Curve<'a>> {
    let methods = methods(summary);
    let place = |index: usize| {
        let method = &summary.runs[index].method;
        let line = methods
            .iter()
            .position(|other| other == method)
            .unwrap_or(0);
        Look {
            line,
            mark: summary.runs[..index]
                .iter()
                .filter(|run| run.method == *method)
                .count(),
        }
    };
    let label = |run: &Outcome| format!("{}, seed {}", display(&run.method), run.seed);
    let one = |(index, run)| Curve {
        label: label(&summary.runs[index]),
        look: place(index),
        run,
    };
    runs.iter().enumerate().map(one).collect()
}

/// How a number of the table is written, and a difference of two.
#[derive(Clone, Copy)]
enum Unit {
    Percent,
    Milliseconds,
    Seconds,
}

impl Unit {
    fn value(self, value: f64) -> String {
        match self {
            Self::Percent => percent(value),
            Self::Milliseconds => format!("{:.1}", 1000.0 * value),
            Self::Seconds => format!("{value:.1}"),
        }
    }

    fn difference(self, a: f64, b: f64) -> String {
        let scale = match self {
            Self::Percent => 100.0,
            Self::Milliseconds => 1000.0,
            Self::Seconds => 1.0,
        };
        // Of the rounded numbers, so that the row adds up.
        let tenths = (scale * 10.0 * a).round() - (scale * 10.0 * b).round();
        match tenths {
            0.0 => "0.0".to_owned(),
            more if more > 0.0 => format!("+{:.1}", more / 10.0),
            less => format!("−{:.1}", -less / 10.0),
        }
    }
}

/// Measures down, methods across, and CoTo − LoRA where there are both.
fn results(summary: &Summary) -> String {
    let methods = methods(summary);
    let place = |name| methods.iter().position(|method| *method == name);
    let pair = place("coto").zip(place("lora"));
    let mut head = vec![String::new()];
    head.extend(methods.iter().map(|method| display(method).to_owned()));
    head.extend(pair.map(|_| "CoTo − LoRA".to_owned()));

    let mut rows = Vec::new();
    let mut row = |label: String, unit: Unit, number: &dyn Fn(&str) -> Option<f64>| {
        let values: Vec<Option<f64>> = methods.iter().map(|method| number(method)).collect();
        let mut cells = vec![label];
        cells.extend(
            values
                .iter()
                .map(|value| value.map_or("–".to_owned(), |value| unit.value(value))),
        );
        cells.extend(pair.map(|(coto, lora)| match (values[coto], values[lora]) {
            (Some(coto), Some(lora)) => unit.difference(coto, lora),
            _ => "–".to_owned(),
        }));
        rows.push(cells);
    };
    for seed in seeds(summary) {
        let of = |method: &str| {
            summary
                .runs
                .iter()
                .find(|run| run.method == method && run.seed == seed)
                .map(|run| run.accuracy)
        };
        row(format!("Test accuracy, seed {seed}"), Unit::Percent, &of);
    }
    row("Test accuracy, mean".into(), Unit::Percent, &|method| {
        mean(summary, method, |run| run.accuracy)
    });
    row("Macro F1, mean".into(), Unit::Percent, &|method| {
        mean(summary, method, |run| run.macro_f1)
    });
    if !summary.joined.is_empty() {
        let joined = |method: &str, number: fn(&Joined) -> f64| {
            summary
                .joined
                .iter()
                .find(|joined| joined.method == method)
                .map(number)
        };
        row(
            "Joined A, B (fusion), λ = 0.5".into(),
            Unit::Percent,
            &|method| joined(method, |joined| joined.fusion_accuracy),
        );
        row(
            "Joined ΔW (mixture), λ = 0.5".into(),
            Unit::Percent,
            &|method| joined(method, |joined| joined.mixture_accuracy),
        );
    }
    row(
        "Every other layer off, mean".into(),
        Unit::Percent,
        &|method| mean(summary, method, |run| run.every_other_accuracy),
    );
    row("Train accuracy, mean".into(), Unit::Percent, &|method| {
        mean(summary, method, |run| run.train_accuracy)
    });
    row("ms per step, mean".into(), Unit::Milliseconds, &|method| {
        mean(summary, method, |run| run.seconds_per_step)
    });
    row("Seconds per run, mean".into(), Unit::Seconds, &|method| {
        mean(summary, method, |run| run.seconds)
    });
    let caption = format!(
        "Accuracy on {} test rows unless named otherwise.",
        summary.test_rows
    );
    html::table("results", &caption, &head, &rows)
}

fn seeds(summary: &Summary) -> Vec<u64> {
    let mut seeds: Vec<u64> = Vec::new();
    for run in &summary.runs {
        if !seeds.contains(&run.seed) {
            seeds.push(run.seed);
        }
    }
    seeds
}

fn settings(summary: &Summary) -> String {
    let rows = [
        ("Model", summary.model.clone()),
        (
            "Task",
            format!("{}, {} classes", summary.task, summary.classes),
        ),
        (
            "Rows: train, validation, test",
            format!(
                "{}, {}, {}",
                summary.train_rows, summary.validation_rows, summary.test_rows
            ),
        ),
        ("Steps", summary.steps.to_string()),
        ("Batch size", summary.batch_size.to_string()),
        ("Learning rate", summary.learning_rate.to_string()),
        (
            "Rank, alpha",
            format!("{}, {}", summary.rank, summary.alpha),
        ),
        ("Targets", summary.targets.clone()),
        ("Device", summary.device.clone()),
        (
            "Runs",
            summary
                .runs
                .iter()
                .map(|run| run.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        ),
    ];
    let rows: Vec<_> = rows
        .map(|(name, value)| vec![name.to_owned(), value])
        .into();
    html::table("settings", "The same for every run.", &[], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_that_of_the_printed_numbers() {
        assert_eq!(Unit::Percent.difference(0.648, 0.66), "−1.2");
        assert_eq!(Unit::Percent.difference(0.66001, 0.65999), "0.0");
        assert_eq!(Unit::Milliseconds.difference(0.05, 0.0423), "+7.7");
    }
}
