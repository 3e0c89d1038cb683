use std::collections::BTreeMap;

use coto_lowrank::{Matrix, Statistics};
use coto_peft::{Config, Dtype, Folder, HostTensor, Param};
use coto_prune::{Rule, Scope, Sparsity, Zeros, sparsify, sparsity};
use proptest::prelude::*;

use crate::make;

fn all_statistics(folder: &Folder, samples: usize, seed: u64) -> BTreeMap<String, Statistics> {
    let modules = folder.modules().unwrap();
    let of = |path: &String| (path.clone(), make::statistics(folder, path, samples, seed));
    modules.keys().map(of).collect()
}

/// The runs of entries that a rule compares with each other, as (module, factor, flat indices); one run for a global scope.
fn runs(folder: &Folder, scope: Scope) -> Vec<Vec<(String, usize, usize)>> {
    let modules = folder.modules().unwrap();
    let mut runs = Vec::new();
    for path in modules.keys() {
        for (which, factor) in make::factors(folder, path).iter().enumerate() {
            let all: Vec<_> = (0..factor.values().len())
                .map(|i| (path.clone(), which, i))
                .collect();
            match scope {
                Scope::Row => runs.extend(all.chunks(factor.cols()).map(<[_]>::to_vec)),
                Scope::Tensor | Scope::Global => runs.push(all),
            }
        }
    }
    match scope {
        Scope::Global => vec![runs.concat()],
        _ => runs,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn magnitude_zeroes_exactly_the_lowest_of_each_scope(
        layers in 1usize..3, share in 0.0..0.999, which in 0..3usize, seed: u64
    ) {
        let scope = [Scope::Tensor, Scope::Row, Scope::Global][which];
        let whole = make::folder(layers, false, seed);
        let sparse = sparsify(&whole, Rule::Magnitude(scope), Sparsity::Share(share), &BTreeMap::new()).unwrap();
        prop_assert_eq!(&sparse.config, &whole.config);
        let paths: Vec<String> = sparse.modules().unwrap().into_keys().collect();
        let read = |folder: &Folder| -> BTreeMap<String, [Matrix; 2]> {
            paths.iter().map(|path| (path.clone(), make::factors(folder, path))).collect()
        };
        let (before, after) = (read(&whole), read(&sparse));
        let mut expected = 0;
        for run in runs(&whole, scope) {
            let values = run.iter().map(|(path, factor, i)| {
                (before[path][*factor].values()[*i], after[path][*factor].values()[*i])
            });
            let (gone, stays): (Vec<_>, Vec<_>) = values.partition(|(_, after)| *after == 0.0);
            prop_assert_eq!(gone.len(), (share * run.len() as f64).floor() as usize);
            prop_assert!(stays.iter().all(|(before, after)| before == after));
            let most = gone.iter().map(|(before, _)| before.abs()).fold(0.0, f32::max);
            prop_assert!(stays.iter().all(|(before, _)| before.abs() >= most));
            expected += gone.len();
        }
        let total: Zeros = sparsity(&sparse).unwrap().into_values().flatten().sum();
        prop_assert_eq!(total.zeros, expected);
        prop_assert!((total.share() - expected as f64 / total.entries as f64).abs() < 1e-12);
    }

    #[test]
    fn by_data_the_zeros_are_as_many_as_asked(share in 0.0..0.999, two_of_four: bool, seed: u64) {
        let whole = make::folder(1, false, seed);
        let statistics = all_statistics(&whole, 7, seed);
        for (rule, by_row) in [(Rule::Wanda, true), (Rule::SparseGpt, false)] {
            // B's rows have as many entries as the rank: a pattern fits those of rank 4 only.
            let fits = whole.modules().unwrap().keys().all(|path| whole.config.rank(path).unwrap() == 4);
            let sparsity = match two_of_four {
                true => Sparsity::Pattern { kept: 2, of: 4 },
                false => Sparsity::Share(share),
            };
            let sparse = match sparsify(&whole, rule, sparsity, &statistics) {
                Ok(sparse) => sparse,
                Err(error) => {
                    prop_assert!(two_of_four && !fits && error.to_string().contains("columns of B"), "{}", error);
                    continue;
                }
            };
            for path in sparse.modules().unwrap().keys() {
                for factor in make::factors(&sparse, path) {
                    let zeros = |values: &[f32]| values.iter().filter(|&&value| value == 0.0).count();
                    let count = |entries: usize| (share * entries as f64).floor() as usize;
                    match (two_of_four, by_row) {
                        (true, _) => prop_assert!(factor.values().chunks(4).all(|group| zeros(group) == 2)),
                        (false, true) => prop_assert!(
                            (0..factor.rows()).all(|i| zeros(factor.row(i)) == count(factor.cols()))
                        ),
                        (false, false) => prop_assert_eq!(zeros(factor.values()), count(factor.values().len())),
                    }
                }
            }
        }
    }

    #[test]
    fn where_all_inputs_have_one_norm_wanda_is_magnitude_by_rows(share in 0.0..0.999, seed: u64) {
        let mut whole = make::folder(1, false, seed);
        let mut statistics = BTreeMap::new();
        for path in whole.clone().modules().unwrap().keys() {
            // Of inputs c · I the norm of every column is c, and A x then has the norms of A's rows.
            let [mut a, _] = make::factors(&whole, path);
            for k in 0..a.rows() {
                let norm = a.row(k).iter().map(|x| x * x).sum::<f32>().sqrt();
                a.row_mut(k).iter_mut().for_each(|x| *x /= norm);
            }
            whole.insert(path, Param::LoraA, make::tensor(&a));
            let inputs = Matrix::from_fn(a.cols(), a.cols(), |i, j| if i == j { 3.0 } else { 0.0 });
            statistics.insert(path.clone(), Statistics { inputs, gradients: None });
        }
        let wanda = sparsify(&whole, Rule::Wanda, Sparsity::Share(share), &statistics).unwrap();
        let rows = sparsify(&whole, Rule::Magnitude(Scope::Row), Sparsity::Share(share), &statistics).unwrap();
        prop_assert_eq!(wanda, rows);
    }
}

#[test]
fn on_its_inputs_sparsegpt_errs_less_than_wanda_and_magnitude() {
    let rules = [
        Rule::SparseGpt,
        Rule::Wanda,
        Rule::Magnitude(Scope::Tensor),
        Rule::Magnitude(Scope::Row),
    ];
    // Of rows of four, eight and so on entries, by row and by tensor go as many.
    for share in [0.25, 0.5, 0.75] {
        let mut errors = [[0.0; 2]; 4];
        for seed in 0..40 {
            let whole = make::folder(2, false, seed);
            let statistics = all_statistics(&whole, 40, seed);
            for (errors, rule) in errors.iter_mut().zip(rules) {
                let sparse = sparsify(&whole, rule, Sparsity::Share(share), &statistics).unwrap();
                for (path, statistics) in &statistics {
                    let [before, after] = [&whole, &sparse]
                        .map(|folder| make::factors(folder, path).map(|m| m.to_f64()));
                    let x = statistics.inputs.to_f64();
                    let within = &x * before[0].transpose();
                    for (factor, inputs) in [x, within].iter().enumerate() {
                        if before[factor].ncols() % 4 != 0 {
                            continue;
                        }
                        let whole = (inputs * before[factor].transpose()).norm_l2();
                        let lost =
                            (inputs * (&before[factor] - &after[factor]).transpose()).norm_l2();
                        errors[factor] += lost / whole;
                    }
                }
            }
        }
        for others in &errors[1..] {
            assert!(
                errors[0][0] < others[0] && errors[0][1] < others[1],
                "{share}: {errors:?}"
            );
        }
    }
}

#[test]
fn entries_that_stay_keep_their_dtype_and_bits() {
    let mut folder = Folder::new(Config::lora(2, 4.0).targets(["q"]));
    let bf16 = |values: [f32; 4]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes()[2..].to_vec())
            .collect::<Vec<_>>()
    };
    let tensor = |values| HostTensor::new(Dtype::BF16, [2, 2], bf16(values)).unwrap();
    folder.insert("q", Param::LoraA, tensor([1.0, -3.0, 0.5, 2.0]));
    folder.insert("q", Param::LoraB, tensor([5.0, 4.0, -6.0, 7.0]));
    let sparse = |rule: &str| {
        sparsify(
            &folder,
            rule.parse().unwrap(),
            Sparsity::Share(0.5),
            &BTreeMap::new(),
        )
        .unwrap()
    };
    let a = |folder: &Folder| folder.modules().unwrap()["q"][&Param::LoraA].clone();
    assert_eq!(
        a(&sparse("magnitude:tensor")),
        tensor([0.0, -3.0, 0.0, 2.0])
    );
    assert_eq!(a(&sparse("magnitude:row")), tensor([0.0, -3.0, 0.0, 2.0]));
    assert_eq!(a(&sparse("magnitude:global")), tensor([0.0; 4]));
}

#[test]
fn what_is_missing_for_pruning_by_data_is_said() {
    let whole = make::folder(1, false, 1);
    let statistics = all_statistics(&whole, 5, 1);
    let path = "layers.0.query";
    let said = |rule: Rule, statistics: &BTreeMap<String, Statistics>| {
        sparsify(&whole, rule, Sparsity::Share(0.5), statistics)
            .unwrap_err()
            .to_string()
    };
    for rule in [Rule::Wanda, Rule::SparseGpt] {
        let mut less = statistics.clone();
        less.remove(path);
        let error = said(rule, &less);
        assert!(
            error.contains(path) && error.contains("a sample of the module's inputs"),
            "{error}"
        );
        let mut other = statistics.clone();
        other.get_mut(path).unwrap().inputs = Matrix::zeros(3, 1);
        let error = said(rule, &other);
        assert!(
            error.contains(path) && error.contains("inputs of [3, 1]"),
            "{error}"
        );
        let inputs = &mut other.get_mut(path).unwrap().inputs;
        *inputs = statistics[path].inputs.clone();
        inputs.values_mut()[0] = f32::NAN;
        let error = said(rule, &other);
        assert!(error.contains(path) && error.contains("NaN"), "{error}");

        let mut hira = Folder::new(Config::hira(1).targets(["query"]));
        hira.insert(path, Param::HiraA, make::tensor(&Matrix::zeros(1, 4)));
        hira.insert(path, Param::HiraB, make::tensor(&Matrix::zeros(4, 1)));
        let error = sparsify(&hira, rule, Sparsity::Share(0.5), &statistics)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("HiRA") && error.contains("magnitude needs none"),
            "{error}"
        );
        sparsify(
            &hira,
            Rule::Magnitude(Scope::Tensor),
            Sparsity::Share(0.5),
            &statistics,
        )
        .unwrap();
    }
    let error = sparsify(&whole, Rule::Wanda, Sparsity::Share(1.0), &statistics)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the sparsity is 1, but must be at least 0 and below 1"
    );
    for text in [
        "magnitude:tensor",
        "magnitude:row",
        "magnitude:global",
        "wanda",
        "sparsegpt",
    ] {
        let rule: Rule = text.parse().unwrap();
        assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{text}\""));
    }
    let error = "magnitude".parse::<Rule>().unwrap_err().to_string();
    assert!(error.contains("`magnitude:row`"), "{error}");
}
