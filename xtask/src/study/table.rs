use std::fmt::Write;

use super::found::{Cell, Found, MERGED};
use super::{Choice, Study};

/// Means over the seeds with their standard errors, and paired differences from the first method: a table for each group.
pub fn markdown(study: &Study, found: &Found) -> String {
    let mut text = String::new();
    for task in &study.tasks {
        for regime in &study.regimes {
            for steps in steps(found, task, regime) {
                let own = |cell: &&Cell| {
                    let key = &cell.key;
                    key.task == task.name && key.regime == regime.name && key.steps == steps
                };
                let cells: Vec<&Cell> = found.cells.iter().filter(own).collect();
                let heading = format!("### {}, {}, {steps} steps", task.name, regime.name);
                writeln!(text, "{heading}\n\n{}", rates(study, &cells)).expect("a string");
                tables(study, &cells, &mut text);
            }
        }
    }
    for regime in &study.regimes {
        merged(study, found, regime, &mut text);
    }
    text
}

/// What merging keeps of the accuracy of the tasks' own adapters: a line for each way to merge, a column for each method of training.
fn merged(study: &Study, found: &Found, regime: &Choice, text: &mut String) {
    let cells = || {
        let own = |cell: &&Cell| cell.key.task == MERGED && cell.key.regime == regime.name;
        found.cells.iter().filter(own)
    };
    let Some(first) = cells().next() else {
        return;
    };
    let of = |method: &str, by: &str, name: &str| -> Vec<(u64, f64)> {
        let own = cells().filter(|cell| cell.key.method == method);
        own.filter_map(|cell| Some((cell.key.seed, number(cell, by, name)?)))
            .collect()
    };
    let average = |numbers: &[(u64, f64)]| {
        numbers.iter().map(|(_, x)| x).sum::<f64>() / numbers.len().max(1) as f64
    };
    let columns: Vec<&str> = study
        .methods
        .iter()
        .map(|method| method.name.as_str())
        .collect();
    let mut lines: Vec<(f64, String)> = Vec::new();
    for by in first.groups.keys() {
        let mut cells = Vec::new();
        let (mut all, share) = (Vec::new(), "accuracy over own");
        for name in [share, "loss"] {
            let each: Vec<Vec<(u64, f64)>> =
                columns.iter().map(|method| of(method, by, name)).collect();
            cells.extend(each.iter().map(|numbers| mean(numbers)));
            if let [one, other] = each.as_slice() {
                let less = |&(seed, value): &(u64, f64)| {
                    let (_, theirs) = other.iter().find(|(own, _)| *own == seed)?;
                    Some((seed, value - theirs))
                };
                cells.push(mean(&one.iter().filter_map(less).collect::<Vec<_>>()));
            }
            all.push(average(&each.concat()));
        }
        lines.push((all[0], format!("| {by} | {} |", cells.join(" | "))));
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut head = Vec::new();
    for name in ["over own", "loss"] {
        head.extend(columns.iter().map(|method| format!("{method}, {name}")));
        if let [one, other] = columns.as_slice() {
            head.push(format!("{one} − {other}"));
        }
    }
    writeln!(
        text,
        "### {MERGED}, {}\n\n| merged by | {} |",
        regime.name,
        head.join(" | ")
    )
    .expect("a string");
    writeln!(text, "|---|{}", "---|".repeat(head.len())).expect("a string");
    for (_, line) in lines {
        writeln!(text, "{line}").expect("a string");
    }
    text.push('\n');
}

/// The numbers of steps that there are runs of.
fn steps(found: &Found, task: &Choice, regime: &Choice) -> Vec<usize> {
    let own = |cell: &&Cell| cell.key.task == task.name && cell.key.regime == regime.name;
    let mut steps: Vec<usize> = found
        .cells
        .iter()
        .filter(own)
        .map(|c| c.key.steps)
        .collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// What the search for the learning rate found.
fn rates(study: &Study, cells: &[&Cell]) -> String {
    let mut text = String::from("Accuracy on the validation rows, first seed:");
    for method in &study.methods {
        for &rate in &study.rates {
            let own = |cell: &&&Cell| {
                let key = &cell.key;
                key.method == method.name && key.rate == rate && key.seed == study.seeds[0]
            };
            let cell = cells.iter().find(own);
            let value = cell.and_then(|cell| number(cell, "scores", "validation accuracy"));
            if let Some(value) = value {
                write!(text, " {} at {rate:e} {value:.4};", method.name).expect("a string");
            }
        }
    }
    text.pop();
    text + ".\n"
}

fn number(cell: &Cell, group: &str, name: &str) -> Option<f64> {
    cell.groups.get(group)?.get(name)?.as_f64()
}

fn tables(study: &Study, cells: &[&Cell], text: &mut String) {
    // Runs at a rate that was not chosen have scores only.
    let measured = |cell: &&&Cell| cell.groups.contains_key("coalitions");
    let cells: Vec<&Cell> = cells.iter().filter(measured).copied().collect();
    let mut groups: Vec<&str> = Vec::new();
    for name in cells.iter().flat_map(|cell| cell.groups.keys()) {
        if name != "coalitions" && !groups.contains(&name.as_str()) {
            groups.push(name);
        }
    }
    for group in groups {
        let mut names: Vec<&str> = Vec::new();
        let of_group = cells
            .iter()
            .filter_map(|cell| cell.groups.get(group)?.as_object());
        for name in of_group.flat_map(|group| group.keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        writeln!(text, "| {group} | seeds | {} |", names.join(" | ")).expect("a string");
        writeln!(text, "|---|---|{}", "---|".repeat(names.len())).expect("a string");
        let of = |method: &Choice, name: &str| -> Vec<(u64, f64)> {
            let own = cells.iter().filter(|cell| cell.key.method == method.name);
            own.filter_map(|cell| Some((cell.key.seed, number(cell, group, name)?)))
                .collect()
        };
        for method in &study.methods {
            row(&method.name, &names, |name| of(method, name), text);
        }
        let Some((first, others)) = study.methods.split_first() else {
            return;
        };
        for other in others {
            let label = format!("{} − {}", first.name, other.name);
            let differences = |name: &str| -> Vec<(u64, f64)> {
                let theirs = of(other, name);
                let less = |(seed, value): (u64, f64)| {
                    let (_, other) = theirs.iter().find(|(own, _)| *own == seed)?;
                    Some((seed, value - other))
                };
                of(first, name).into_iter().filter_map(less).collect()
            };
            row(&label, &names, differences, text);
        }
        text.push('\n');
    }
}

/// A row of means with their standard errors.
fn row(label: &str, names: &[&str], values: impl Fn(&str) -> Vec<(u64, f64)>, text: &mut String) {
    let columns: Vec<Vec<(u64, f64)>> = names.iter().map(|name| values(name)).collect();
    let seeds = columns.iter().map(Vec::len).max().unwrap_or(0);
    let cells: Vec<String> = columns.iter().map(|column| mean(column)).collect();
    writeln!(text, "| {label} | {seeds} | {} |", cells.join(" | ")).expect("a string");
}

/// The mean, and its standard error where there are two numbers or more.
fn mean(numbers: &[(u64, f64)]) -> String {
    let n = numbers.len() as f64;
    let mean = numbers.iter().map(|(_, x)| x).sum::<f64>() / n;
    let squares: f64 = numbers.iter().map(|(_, x)| (x - mean).powi(2)).sum();
    match numbers.len() {
        0 => "–".to_owned(),
        1 => format!("{mean:.4}"),
        _ => format!("{mean:.4} ± {:.4}", (squares / (n * (n - 1.0))).sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_the_standard_error_of_the_mean() {
        // Of 1, 2, 3, 4 the deviation is √(5/3), and that of their mean half of it.
        let numbers = [1.0, 2.0, 3.0, 4.0].map(|x| (0, x));
        assert_eq!(mean(&numbers), "2.5000 ± 0.6455");
        assert_eq!(mean(&numbers[..1]), "1.0000");
        assert_eq!(mean(&[]), "–");
    }
}
