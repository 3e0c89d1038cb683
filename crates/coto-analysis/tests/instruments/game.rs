use coto_adapters::Pass;
use coto_analysis::{AdapterGame, Evaluation, Margins, Value};
use coto_coalition::{Coalition, Grouping};
use coto_shapley::{Game, exact};
use coto_train::Split;

use crate::trained;

#[test]
fn a_coalition_is_worth_what_evaluating_the_run_says() {
    for language in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let run = trained(dir.path(), language);
        let n = run.adapters().players().len();
        assert!(n > 11);
        let coalitions: Vec<Coalition> =
            [0, 1, 0b1000000001, 0b111000, 0b101010101010, (1 << n) - 1]
                .map(|bits| Coalition::from_bits(n, bits))
                .into();
        let evaluation = Evaluation::new(&run, Split::Test).unwrap();
        let values = |value| {
            let mut game = AdapterGame::new(&evaluation, run.adapters(), value);
            let values = game.values(&coalitions).unwrap();
            assert!(game.runs().used < game.runs().naive);
            values
        };
        let [losses, accuracies] = [Value::Loss, Value::Accuracy].map(values);
        for (i, on) in coalitions.iter().enumerate() {
            let pass = Pass::new(run.adapters(), on);
            let scores = run.evaluate(Split::Test, &pass).unwrap();
            assert_eq!((-losses[i], accuracies[i]), (scores.loss, scores.accuracy));
        }
        assert_ne!(losses[0], losses[5]);
    }
}

#[test]
fn the_margin_of_two_classes_is_the_log_odds_that_the_loss_tells() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let evaluation = Evaluation::new(&run, Split::Test).unwrap();
    let grand = [run.adapters().grand()];
    let mut heard = 0;
    let mut hear = |_, told: &[coto_analysis::Told]| {
        for told in told {
            let loss = (-f64::from(told.margin)).exp().ln_1p();
            assert!((loss - f64::from(told.loss)).abs() < 1e-5, "{told:?}");
            assert_eq!(told.right, told.margin > 0.0);
            heard += 1;
        }
    };
    evaluation
        .judge(run.adapters(), &grand, Margins::Wanted, &mut hear)
        .unwrap();
    assert_eq!(heard, 24);
}

#[test]
fn a_told_token_is_right_where_its_margin_is_positive() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), true);
    let evaluation = Evaluation::new(&run, Split::Train).unwrap();
    let grand = [run.adapters().grand()];
    let (mut right, mut wrong) = (0, 0);
    let mut hear = |_, told: &[coto_analysis::Told]| {
        for told in told {
            assert_eq!(told.right, told.margin > 0.0, "{told:?}");
            *if told.right { &mut right } else { &mut wrong } += 1;
        }
    };
    evaluation
        .judge(run.adapters(), &grand, Margins::Wanted, &mut hear)
        .unwrap();
    assert!(right > 0 && wrong > 0, "{right} right, {wrong} wrong");
}

#[test]
fn shapley_values_of_layers_share_what_the_adapters_gain() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let adapters = run.adapters().clone().regrouped(&Grouping::Layer).unwrap();
    let evaluation = Evaluation::new(&run, Split::Test).unwrap();
    let mut game = AdapterGame::new(&evaluation, &adapters, Value::Loss);
    let shapley = exact(&mut game).unwrap();
    // One batch of 24 rows; two layers: 2 + 4 runs in place of 4 × 2.
    assert_eq!((game.runs().used, game.runs().naive), (6, 8));
    let loss = |on: &str| {
        let on: Coalition = on.parse().unwrap();
        let scores = run.evaluate(Split::Test, &Pass::new(&adapters, &on));
        scores.unwrap().loss
    };
    let gain = loss("00") - loss("11");
    let lower = 0.5 * (loss("00") - loss("10") + loss("01") - loss("11"));
    assert!((shapley.values[0] - lower).abs() < 1e-12);
    assert!((shapley.values.iter().sum::<f64>() - gain).abs() < 1e-12);
}

#[test]
fn a_sample_of_rows_is_the_seeds_own_and_of_the_size_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let on = |samples, seed| {
        let evaluation = Evaluation::new(&run, Split::Test)
            .unwrap()
            .sampled(samples, seed);
        let means = evaluation.whole(run.adapters(), Margins::Unwanted).unwrap();
        (evaluation.samples(), means.loss)
    };
    assert_eq!(on(10, 1), on(10, 1));
    assert_eq!(on(10, 1).0, 10);
    assert_ne!(on(10, 1).1, on(10, 2).1);
    assert_eq!(on(24, 1), on(1000, 2));
}
