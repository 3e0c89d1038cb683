//! What came out of a comparison, in plain sentences computed from the numbers.

use crate::read::{Outcome, Summary};

/// The methods in the order they first appear.
pub(crate) fn methods(summary: &Summary) -> Vec<&str> {
    let mut methods: Vec<&str> = Vec::new();
    for run in &summary.runs {
        if !methods.contains(&run.method.as_str()) {
            methods.push(&run.method);
        }
    }
    methods
}

/// A method's name as people write it.
pub(crate) fn display(method: &str) -> &str {
    match method {
        "lora" => "LoRA",
        "coto" => "CoTo",
        other => other,
    }
}

/// The mean of one number over the runs of a method; nothing where the method has none.
pub(crate) fn mean(
    summary: &Summary,
    method: &str,
    number: impl Fn(&Outcome) -> f64,
) -> Option<f64> {
    let values: Vec<f64> = summary
        .runs
        .iter()
        .filter(|run| run.method == method)
        .map(number)
        .collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A share in 0..=1 as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The first sentence: CoTo's accuracy against LoRA's, or every method's own where one of the two is missing.
pub(crate) fn headline(summary: &Summary) -> String {
    let accuracy = |method| mean(summary, method, |run| run.accuracy);
    if let (Some(coto), Some(lora)) = (accuracy("coto"), accuracy("lora")) {
        let seeds = |method| {
            summary
                .runs
                .iter()
                .filter(|run| run.method == method)
                .count()
        };
        let over = match (seeds("coto"), seeds("lora")) {
            (1, 1) => "one seed each".to_owned(),
            (coto, lora) if coto == lora => format!("{coto} seeds each"),
            (coto, lora) => format!("{coto} and {lora} seeds"),
        };
        return format!(
            "The mean test accuracy of CoTo {}, over {over}.",
            against(coto, lora)
        );
    }
    let each = methods(summary).into_iter().filter_map(|method| {
        Some(format!(
            "{} {}",
            display(method),
            percent(accuracy(method)?)
        ))
    });
    format!(
        "Mean test accuracy: {}.",
        each.collect::<Vec<_>>().join(", ")
    )
}

/// The second sentence: the same for joined adapters and for half of the layers; empty where there is nothing to compare.
pub(crate) fn robustness(summary: &Summary) -> String {
    let joined = |method| summary.joined.iter().find(|joined| joined.method == method);
    let mut sentences = Vec::new();
    if let (Some(coto), Some(lora)) = (joined("coto"), joined("lora")) {
        sentences.push(format!(
            "With the adapters of two seeds joined half and half, CoTo {} by fusion of A and B, and {} by mixture of ΔW.",
            against(coto.fusion_accuracy, lora.fusion_accuracy),
            against(coto.mixture_accuracy, lora.mixture_accuracy)
        ));
    }
    let half = |method| mean(summary, method, |run| run.every_other_accuracy);
    if let (Some(coto), Some(lora)) = (half("coto"), half("lora")) {
        sentences.push(format!(
            "With the adapters of every other layer off, CoTo {}.",
            against(coto, lora)
        ));
    }
    sentences.join(" ")
}

/// The third: how large a difference chance alone would make.
pub(crate) fn caution(summary: &Summary) -> String {
    let count = summary.runs.len() as f64;
    let share = (summary.runs.iter().map(|run| run.accuracy).sum::<f64>() / count).clamp(0.0, 1.0);
    let error = 100.0 * (share * (1.0 - share) / summary.test_rows.max(1) as f64).sqrt();
    let apart = methods(summary).into_iter().map(|method| {
        let values = || {
            summary
                .runs
                .iter()
                .filter(|run| run.method == method)
                .map(|run| run.accuracy)
        };
        values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min)
    });
    let apart = 100.0 * apart.fold(0.0, f64::max);
    let mut out = format!(
        "How far to trust this: one accuracy on {} test rows has a standard error of about {error:.1} points",
        summary.test_rows
    );
    if summary.runs.len() > methods(summary).len() {
        out += &format!(", and the seeds of one method lie up to {apart:.1} points apart");
    }
    out += ".";
    if let Some(probe) = summary.probe_accuracy {
        out += &format!(
            " A linear probe on the frozen model, without any adapter, reaches {}.",
            percent(probe)
        );
    }
    out
}

/// "is 1.2 points below LoRA (64.8 % against 66.0 %)".
fn against(coto: f64, lora: f64) -> String {
    // From the rounded numbers, so that the sentence agrees with the figures in its brackets.
    let points = ((1000.0 * coto).round() - (1000.0 * lora).round()) / 10.0;
    let (a, b) = (percent(coto), percent(lora));
    match points {
        0.0 => format!("is level with LoRA to a tenth of a point ({a})"),
        above if above > 0.0 => format!("is {above:.1} points above LoRA ({a} against {b})"),
        below => format!("is {:.1} points below LoRA ({a} against {b})", -below),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_a_win_and_a_draw_are_told_apart() {
        assert_eq!(
            against(0.648, 0.66),
            "is 1.2 points below LoRA (64.8 % against 66.0 %)"
        );
        assert_eq!(
            against(0.70, 0.66),
            "is 4.0 points above LoRA (70.0 % against 66.0 %)"
        );
        assert_eq!(
            against(0.6601, 0.66),
            "is level with LoRA to a tenth of a point (66.0 %)"
        );
    }
}
