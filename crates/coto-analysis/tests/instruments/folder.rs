use std::collections::BTreeMap;

use coto_adapters::Pass;
use coto_analysis::{Evaluation, Margins};
use coto_coalition::Coalition;
use coto_lowrank::{LowRank, folder, updates};
use coto_train::{Run, Split};

use crate::trained;

const KEPT: [&str; 2] = [
    "encoder.layer.0.attention.self.query",
    "encoder.layer.1.output.dense",
];

/// Two modules of the run's, one of them of twice its rank.
fn fewer(run: &Run) -> coto_peft::Folder {
    let own = run.adapters().to_folder().unwrap();
    let all = updates(&own).unwrap();
    let half = |update| LowRank::sum(&[(update, 0.5), (update, 0.5)]).unwrap();
    let kept = [all[KEPT[0]].clone(), half(&all[KEPT[1]])];
    let kept = KEPT.map(str::to_owned).into_iter().zip(kept);
    folder(&own, &BTreeMap::from_iter(kept)).unwrap()
}

#[test]
fn a_folder_of_fewer_modules_and_uneven_ranks_is_judged_as_it_is_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let small = fewer(&run);
    let set = run.adapters_from(&small).unwrap();
    assert_eq!(set.players().names(), KEPT);
    let ranks: Vec<usize> = set
        .adapters()
        .iter()
        .map(|adapter| adapter.rank())
        .collect();
    assert_eq!(ranks, [2, 4]);
    let evaluation = Evaluation::new(&run, Split::Test).unwrap();
    let found = evaluation.whole(&set, Margins::Wanted).unwrap();

    let own = run.adapters().modules();
    let kept = KEPT.map(|path| own.iter().position(|module| module.path == path).unwrap());
    let on = Coalition::from_players(own.len(), kept);
    let (means, _) = evaluation
        .means(run.adapters(), &[on], Margins::Wanted)
        .unwrap();
    assert!(
        (found.loss - means[0].loss).abs() < 1e-6,
        "{found:?} {means:?}"
    );
    assert_eq!(found.accuracy, means[0].accuracy);
    assert_ne!(
        found.loss,
        evaluation
            .whole(run.adapters(), Margins::Wanted)
            .unwrap()
            .loss
    );

    let path = dir.path().join("small");
    small.save(&path).unwrap();
    let read = run.adapters_of(&path).unwrap();
    assert_eq!(evaluation.whole(&read, Margins::Wanted).unwrap(), found);
    let pass = read.grand();
    let scores = run.evaluate(Split::Test, &Pass::new(&read, &pass)).unwrap();
    assert_eq!((scores.loss, scores.accuracy), (found.loss, found.accuracy));
}

#[test]
fn a_folder_of_another_model_is_refused_by_its_module() {
    let [dir, other] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let (run, decoder) = (trained(dir.path(), false), trained(other.path(), true));
    let error = decoder.adapters_from(&fewer(&run)).unwrap_err().to_string();
    assert!(error.contains(KEPT[0]), "{error}");
}
