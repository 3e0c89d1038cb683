use serde::Deserialize;

use super::{Origin, Section, rows};
use crate::html;
use crate::svg::{Bar, Bars};
use crate::verdict::percent;

/// The result of `coto merge` where merged adapters were judged.
#[derive(Deserialize)]
pub(super) struct Merge {
    tasks: Vec<Task>,
    trials: Vec<Trial>,
    weights: Vec<f64>,
}

/// What one adapter was trained for.
#[derive(Deserialize)]
struct Task {
    name: String,
    samples: usize,
    /// Without any adapter.
    base: Means,
    /// With its own adapter alone.
    own: Means,
}

#[derive(Deserialize)]
struct Means {
    loss: f64,
    accuracy: f64,
}

/// One way to merge.
#[derive(Deserialize)]
struct Trial {
    method: String,
    /// Of each task, in order; none where the method refused.
    scores: Vec<Means>,
    rank: Option<usize>,
    error: Option<f64>,
    seconds: f64,
    refused: Option<String>,
}

impl Trial {
    /// The mean over tasks of the accuracy over that of the task's own adapter.
    fn relative(&self, tasks: &[Task]) -> Option<f64> {
        let each = self.scores.iter().zip(tasks);
        let sum: f64 = each
            .map(|(score, task)| score.accuracy / task.own.accuracy)
            .sum();
        (!self.scores.is_empty()).then(|| sum / self.scores.len() as f64)
    }
}

pub(super) fn section(result: &Merge, origin: &Origin, id: &str) -> Section {
    let tasks = &result.tasks;
    let mut judged: Vec<(&Trial, f64)> = result
        .trials
        .iter()
        .filter_map(|trial| Some((trial, trial.relative(tasks)?)))
        .collect();
    judged.sort_by(|a, b| b.1.total_cmp(&a.1));
    let base = tasks
        .iter()
        .map(|task| task.base.accuracy / task.own.accuracy)
        .sum::<f64>()
        / tasks.len() as f64;
    let mut body = match judged.first() {
        Some((best, share)) => html::paragraph(
            "headline",
            &format!(
                "{} keeps {} of the accuracy that {} adapters have on their own tasks; without any adapter it is {}.",
                best.method,
                percent(*share),
                tasks.len(),
                percent(base)
            ),
        ),
        None => String::new(),
    };
    body += &html::paragraph("note", &origin.note());
    let bar = |label: &str, share: f64| Bar {
        label: label.to_owned(),
        value: 100.0 * share,
        interval: None,
        text: format!("{:.1}", 100.0 * share),
    };
    let bars = judged
        .iter()
        .map(|(trial, share)| bar(&trial.method, *share));
    body += &Bars {
        id: &format!("{id}-relative"),
        title: "Accuracy over that of each task's own adapter",
        desc: "Mean over the tasks of the merged adapter's accuracy divided by that of the task's own adapter, in %; the best method first, no adapter at all last.",
        x: "accuracy over the own adapter's, mean over tasks, %",
        bars: bars.chain([bar("(no adapter)", base)]).collect(),
    }
    .draw();
    let mut head = vec!["Method".to_owned()];
    head.extend(tasks.iter().map(|task| task.name.clone()));
    head.extend(["Over own", "Loss", "Rank", "Lost", "Seconds"].map(str::to_owned));
    let line = |name: &str, scores: &[&Means], share: f64| {
        let mut cells = vec![name.to_owned()];
        cells.extend(scores.iter().map(|score| percent(score.accuracy)));
        let loss = scores.iter().map(|score| score.loss).sum::<f64>() / scores.len() as f64;
        cells.extend([percent(share), format!("{loss:.4}")]);
        cells
    };
    let mut table: Vec<Vec<String>> = judged
        .iter()
        .map(|(trial, share)| {
            let mut cells = line(
                &trial.method,
                &trial.scores.iter().collect::<Vec<_>>(),
                *share,
            );
            cells.extend([
                trial.rank.map_or(String::new(), |rank| rank.to_string()),
                trial.error.map_or(String::new(), percent),
                format!("{:.2}", trial.seconds),
            ]);
            cells
        })
        .collect();
    for (name, share, of) in [
        (
            "(own adapter)",
            1.0,
            (|task| &task.own) as fn(&Task) -> &Means,
        ),
        ("(no adapter)", base, |task| &task.base),
    ] {
        let mut cells = line(name, &tasks.iter().map(of).collect::<Vec<_>>(), share);
        cells.resize(head.len(), String::new());
        table.push(cells);
    }
    body += &html::table(
        "results",
        "Accuracy on each task; Lost is what re-compression to the rank left out of ΔW.",
        &head,
        &table,
    );
    for trial in &result.trials {
        if let Some(reason) = &trial.refused {
            body += &html::paragraph("note", &format!("{}: {reason}", trial.method));
        }
    }
    let list = |numbers: Vec<String>| numbers.join(", ");
    body += &html::table(
        "settings",
        "How it was measured.",
        &[],
        &rows(&[
            (
                "Weights",
                list(
                    result
                        .weights
                        .iter()
                        .map(|weight| format!("{weight:.3}"))
                        .collect(),
                ),
            ),
            (
                "Rows a task",
                list(tasks.iter().map(|task| task.samples.to_string()).collect()),
            ),
        ]),
    );
    Section {
        title: format!("Merging {}", origin.names().join(", ")),
        body,
    }
}
