use std::collections::BTreeMap;

use coto_lowrank::{LowRank, Statistics, updates};
use coto_peft::{Config, Folder, HostTensor, Param};
use coto_prune::{Ranks, Reduced, reduce};
use proptest::prelude::*;

use crate::make;

/// What a rule makes, read back and held against its report.
fn reduced(
    whole: &Folder,
    ranks: &Ranks,
    statistics: &BTreeMap<String, Statistics>,
) -> (Folder, Vec<Reduced>) {
    let (small, report) = reduce(whole, ranks, statistics).unwrap();
    let (before, after) = (updates(whole).unwrap(), updates(&small).unwrap());
    assert!(report.iter().map(|one| &one.module).eq(before.keys()));
    for one in &report {
        let update = &before[&one.module];
        assert_eq!(one.before, update.rank());
        match after.get(&one.module) {
            Some(small) => {
                assert_eq!(one.after, small.rank());
                assert!(
                    (make::gap(small, update) - one.error).abs() < 1e-6,
                    "{one:?}"
                );
                assert!(
                    (small.norm().powi(2) / update.norm().powi(2) - one.energy).abs() < 1e-6,
                    "{one:?}"
                );
            }
            None => assert_eq!((one.after, one.energy, one.error), (0, 0.0, 1.0)),
        }
    }
    (small, report)
}

fn ranks(report: &[Reduced]) -> usize {
    report.iter().map(|one| one.after).sum()
}

/// Singular values by module, over the module's norm if relative.
fn values(whole: &Folder, relative: bool) -> Vec<Vec<f64>> {
    let of = |update: LowRank| {
        let norm = if relative { update.norm() } else { 1.0 };
        update.svd().unwrap().s.iter().map(|s| s / norm).collect()
    };
    updates(whole).unwrap().into_values().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn full_ranks_are_the_identity(layers in 1usize..3, rslora: bool, seed: u64) {
        let whole = make::folder(layers, rslora, seed);
        let parameters = whole.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        for rule in [
            Ranks::Rank(6), Ranks::Energy(1.0), Ranks::Total { ranks: 99, relative: false },
            Ranks::Parameters { most: parameters, relative: true },
        ] {
            let (small, report) = reduced(&whole, &rule, &BTreeMap::new());
            prop_assert!(report.iter().all(|one| one.after == one.before && (0.0..1e-6).contains(&one.error)), "{} {:?}", rule, report);
            for path in small.modules().unwrap().keys() {
                prop_assert_eq!(small.config.scaling(path).unwrap(), 1.0);
            }
            prop_assert_eq!(&small.config.target_modules, &whole.config.target_modules);
        }
    }

    #[test]
    fn ranks_have_the_energy_and_one_less_has_not(share in 0.01..1.0, rslora: bool, seed: u64) {
        let whole = make::folder(2, rslora, seed);
        let (_, report) = reduced(&whole, &Ranks::Energy(share), &BTreeMap::new());
        for (one, s) in report.iter().zip(values(&whole, true)) {
            prop_assert!(one.energy >= share - 1e-12);
            let less: f64 = s[..one.after - 1].iter().map(|s| s * s).sum();
            prop_assert!(less < share);
        }
        let (_, report) = reduced(&whole, &Ranks::Rank(2), &BTreeMap::new());
        prop_assert!(report.iter().all(|one| one.after == one.before.min(2)));
    }

    #[test]
    fn budgets_hold_and_are_spent_on_the_largest_singular_values(total in 1usize..14, relative: bool, seed: u64) {
        let whole = make::folder(2, false, seed);
        let s = values(&whole, relative);
        let (small, report) = reduced(&whole, &Ranks::Total { ranks: total, relative }, &BTreeMap::new());
        prop_assert_eq!(ranks(&report), total.min(s.iter().map(Vec::len).sum()));
        let split = || report.iter().zip(&s).map(|(one, s)| s.split_at(one.after));
        let least = split().flat_map(|(kept, _)| kept).fold(f64::INFINITY, |a, b| a.min(*b));
        // Of modules of rank 1 the relative value is 1, but for the last bits.
        prop_assert!(split().flat_map(|(_, gone)| gone).all(|s| *s <= least + 1e-12));
        let paths: Vec<String> = whole.modules().unwrap().into_keys().collect();
        let stays: Vec<usize> = (0..paths.len()).filter(|&i| report[i].after > 0).collect();
        prop_assert_eq!(small.config.resolve_targets(&paths).unwrap(), stays);

        let most = 40 * total;
        let spent = |folder: &Folder| folder.tensors.values().map(|t| t.shape.iter().product::<usize>()).sum::<usize>();
        let (small, report) = reduced(&whole, &Ranks::Parameters { most, relative }, &BTreeMap::new());
        prop_assert!(spent(&small) <= most);
        let dims: Vec<usize> = updates(&whole).unwrap().values().map(|update| update.dims().iter().sum()).collect();
        let fits = |i: usize| dims[i] <= most - spent(&small);
        prop_assert!((0..report.len()).all(|i| report[i].after == s[i].len() || !fits(i)));
    }

    #[test]
    fn the_most_sensitive_terms_stay_as_they_are_with_their_scale(
        total in 1usize..14, rslora: bool, dora: bool, seed: u64
    ) {
        let mut whole = make::folder(2, rslora, seed);
        let paths: Vec<String> = whole.modules().unwrap().into_keys().collect();
        let statistics: BTreeMap<String, Statistics> =
            paths.iter().map(|path| (path.clone(), make::statistics(&whole, path, 3, seed))).collect();
        let rule = Ranks::Sensitivity(total);
        let (plain, report) = reduced(&whole, &rule, &statistics);
        let available: usize = report.iter().map(|one| one.before).sum();
        prop_assert_eq!(ranks(&report), total.min(available));
        for path in plain.modules().unwrap().keys() {
            let (before, after) = (whole.config.scaling(path).unwrap(), plain.config.scaling(path).unwrap());
            prop_assert!((before - after).abs() < 1e-12 * before.abs());
        }
        let (mut least, mut most) = (f64::INFINITY, 0.0f64);
        for path in &paths {
            let [a, b] = make::factors(&whole, path);
            let sensitivity = &statistics[path].gradients.as_ref().unwrap().sensitivity;
            let kept = plain.modules().unwrap().contains_key(path).then(|| make::factors(&plain, path));
            let mut next = 0;
            for k in 0..a.rows() {
                let column = (0..b.rows()).map(|i| sensitivity.b.row(i)[k]);
                let score: f64 = sensitivity.a.row(k).iter().copied().chain(column).map(f64::from).sum();
                let same = kept.as_ref().is_some_and(|[kept_a, kept_b]| {
                    next < kept_a.rows() && kept_a.row(next) == a.row(k)
                        && (0..b.rows()).all(|i| kept_b.row(i)[next] == b.row(i)[k])
                });
                next += usize::from(same);
                if same { least = least.min(score) } else { most = most.max(score) }
            }
            prop_assert_eq!(next, kept.map_or(0, |[a, _]| a.rows()));
        }
        prop_assert!(least >= most - 1e-9);

        if dora {
            let outs: Vec<usize> = paths.iter().map(|path| make::factors(&whole, path)[1].rows()).collect();
            whole.config.use_dora = true;
            for (path, out) in paths.iter().zip(outs) {
                let ones = HostTensor::from_f32([out], &vec![1.0; out]).unwrap();
                whole.insert(path, Param::Magnitude, ones);
            }
            let (small, of_dora) = reduce(&whole, &rule, &statistics).unwrap();
            prop_assert_eq!(of_dora, report);
            prop_assert_eq!(small.tensors.len(), 3 * plain.modules().unwrap().len());
        }
    }
}

#[test]
fn a_module_without_an_update_is_dropped_by_budgets() {
    let mut whole = make::folder(1, false, 2);
    let [_, b] = make::factors(&whole, "layers.0.query");
    let zeros = coto_lowrank::Matrix::zeros(b.rows(), b.cols());
    whole.insert("layers.0.query", Param::LoraB, make::tensor(&zeros));
    for rule in ["energy:0.5", "total:99:relative", "parameters:9999"] {
        let (small, report) = reduce(&whole, &rule.parse().unwrap(), &BTreeMap::new()).unwrap();
        assert_eq!(small.modules().unwrap().len(), 1, "{rule}");
        assert_eq!(
            (report[0].after, report[0].energy, report[0].error),
            (0, 1.0, 0.0)
        );
    }
    let all = "rank:3".parse().unwrap();
    assert_eq!(
        reduce(&whole, &all, &BTreeMap::new())
            .unwrap()
            .0
            .modules()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_rule_is_its_text_and_what_it_cannot_do_is_said() {
    let whole = make::folder(1, false, 1);
    let error = |folder: &Folder, rule: &str| -> String {
        reduce(folder, &rule.parse().unwrap(), &BTreeMap::new())
            .unwrap_err()
            .to_string()
    };
    for text in [
        "energy:0.95",
        "rank:4",
        "total:64",
        "total:64:relative",
        "parameters:9000",
        "parameters:9:relative",
        "sensitivity:8",
    ] {
        let rule: Ranks = text.parse().unwrap();
        assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{text}\""));
    }
    for (text, says) in [
        ("energy:0", "share of energy is 0"),
        ("energy:nan", "NaN"),
        ("rank:0", "the rank is 0"),
        ("rank", "`sensitivity:RANKS`"),
        ("total:4:relativ", "`total:4:relativ`"),
    ] {
        let error = text.parse::<Ranks>().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(error(&whole, "total:0").contains("`total:0` keeps none of the 2 modules"));
    let missing = error(&whole, "sensitivity:3");
    assert!(
        missing.contains("layers.0.query") && missing.contains("|g · w|"),
        "{missing}"
    );
    let mut hira = Folder::new(Config::hira(1).targets(["query"]));
    hira.insert(
        "query",
        Param::HiraA,
        make::tensor(&make::noise(1, 4, 1, "a")),
    );
    hira.insert(
        "query",
        Param::HiraB,
        make::tensor(&make::noise(4, 1, 1, "b")),
    );
    assert!(error(&hira, "sensitivity:1").contains("HiRA"));
    assert!(error(&hira, "rank:1").contains("HiRA"));
}
