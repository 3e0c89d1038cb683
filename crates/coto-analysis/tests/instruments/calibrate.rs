use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use coto_adapters::{AdapterConfig, AdapterSet, Init, Pass};
use coto_analysis::{Calibration, Error, Evaluation, Margins, calibrate};
use coto_coalition::Grouping;
use coto_lowrank::{Matrix, Statistics};
use coto_models::Layered;
use coto_train::{Run, Split};

use crate::{stirred, trained};

const LOWEST: &str = "encoder.layer.0.attention.self.query";
const UPPER: &str = "encoder.layer.1.attention.self.value";

/// As many rows and inputs as there are.
fn all() -> Calibration {
    Calibration {
        samples: 10_000,
        batches: 1_000,
        batch_size: 5,
        ..Default::default()
    }
}

fn told(run: &Run, options: &Calibration) -> BTreeMap<String, Statistics> {
    let evaluation = Evaluation::new(run, Split::Test).unwrap();
    calibrate(&evaluation, run.adapters(), options).unwrap()
}

fn host(x: Tensor<2>) -> Matrix {
    let [rows, cols] = x.dims();
    Matrix::new(rows, cols, x.into_data().iter().collect()).unwrap()
}

fn bits(matrix: &Matrix) -> Vec<Vec<u32>> {
    let row = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect();
    let rows = (0..matrix.rows()).map(|i| row(matrix.row(i)));
    let mut rows: Vec<Vec<u32>> = rows.collect();
    rows.sort();
    rows
}

fn assert_close(found: &Matrix, expected: &Matrix, tolerance: f32) {
    assert_eq!(
        (found.rows(), found.cols()),
        (expected.rows(), expected.cols())
    );
    let largest = expected
        .values()
        .iter()
        .fold(0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0);
    for (a, b) in found.values().iter().zip(expected.values()) {
        assert!((a - b).abs() <= tolerance * largest, "{a} {b}");
    }
}

#[test]
fn what_goes_into_the_lowest_layer_are_the_embedded_tokens_without_padding() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let told = told(&run, &all());
    assert_eq!(told.len(), run.adapters().adapters().len());
    // Each row alone has no padding.
    let alone = |row| {
        let batch = run
            .task()
            .batch(Split::Test, &vec![vec![row]], run.device());
        run.model().embed(&batch.unwrap().input).states
    };
    let states = host(Tensor::cat((0..24).map(alone).collect(), 0));
    assert_eq!(bits(&told[LOWEST].inputs), bits(&states));
    for statistics in told.values() {
        assert_eq!(statistics.inputs.rows(), states.rows());
        assert_eq!(statistics.gradients, None);
    }
}

#[test]
fn what_goes_into_an_upper_layer_was_made_with_the_adapters_below() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let adapters = stirred(run.adapters().clone());
    let evaluation = Evaluation::new(&run, Split::Test).unwrap().sampled(1, 3);
    let told = calibrate(&evaluation, &adapters, &all()).unwrap();
    let of = |pass: &Pass| {
        let rows = (0..24).map(|row| {
            let batch = run
                .task()
                .batch(Split::Test, &vec![vec![row]], run.device());
            let hidden = run.model().embed(&batch.unwrap().input);
            host(run.model().layer(0, hidden, pass).states)
        });
        let mut found = rows.filter(|states| {
            let found = &told[UPPER].inputs;
            found.rows() == states.rows()
                && (found.values().iter().zip(states.values())).all(|(a, b)| (a - b).abs() < 1e-5)
        });
        found.next().is_some()
    };
    let grand = adapters.grand();
    assert!(of(&Pass::new(&adapters, &grand)));
    assert!(!of(&Pass::base()));
}

#[test]
fn of_packed_rows_every_token_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), true);
    let tokens = |rows: &coto_train::Rows| {
        let batch = run.task().batch(Split::Test, rows, run.device()).unwrap();
        assert!(batch.tokens > 0);
        batch.tokens
    };
    let batches = run.task().in_order(Split::Test, 3);
    let tokens: usize = batches.iter().map(tokens).sum();
    for statistics in told(&run, &all()).values() {
        assert_eq!(statistics.inputs.rows(), tokens);
    }
}

#[test]
fn a_sample_of_inputs_is_the_seeds_own_and_alike_for_modules_with_the_same_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let of = |seed| {
        let options = Calibration {
            samples: 10,
            seed,
            ..all()
        };
        told(&run, &options)
    };
    let (one, other) = (of(1), of(2));
    assert_eq!(one, of(1));
    assert_ne!(one[LOWEST], other[LOWEST]);
    let whole = bits(&told(&run, &all())[LOWEST].inputs);
    let kept = bits(&one[LOWEST].inputs);
    assert!(kept.len() == 10 && kept.iter().all(|row| whole.contains(row)));
    let key = LOWEST.replace("query", "value");
    assert_eq!(one[LOWEST].inputs, one[&key].inputs);
    let few = Calibration {
        batches: 2,
        batch_size: 3,
        ..all()
    };
    let rows = told(&run, &few)[LOWEST].inputs.rows();
    assert!((6 * 3..=6 * 12).contains(&rows), "{rows}");
}

/// The mean loss with one entry of a factor moved.
fn moved(evaluation: &Evaluation, set: &AdapterSet, name: &str, at: usize, by: f32) -> f64 {
    let mut set = set.clone();
    for factor in set
        .factors()
        .into_iter()
        .filter(|factor| factor.name == name)
    {
        let dims = factor.tensor.dims();
        let mut values: Vec<f32> = factor.tensor.clone().into_data().iter().collect();
        values[at] += by;
        let data = burn::tensor::TensorData::new(values, dims);
        *factor.tensor = Tensor::from_data(data, &Device::flex());
    }
    evaluation.whole(&set, Margins::Unwanted).unwrap().loss
}

#[test]
fn gradients_of_one_batch_are_the_slopes_of_its_mean_loss() {
    for language in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let run = trained(dir.path(), language);
        let adapters = stirred(run.adapters().clone());
        let evaluation = Evaluation::new(&run, Split::Test).unwrap();
        let options = Calibration {
            batch_size: 1_000,
            gradients: true,
            ..all()
        };
        let told = calibrate(&evaluation, &adapters, &options).unwrap();
        let folder = adapters.to_folder().unwrap();
        for (path, params) in folder.modules().unwrap() {
            let found = told[&path].gradients.as_ref().unwrap();
            for (name, squared, sensitivity) in [
                ("lora_A.weight", &found.squared.a, &found.sensitivity.a),
                ("lora_B.weight", &found.squared.b, &found.sensitivity.b),
            ] {
                let (_, stored) = params
                    .iter()
                    .find(|(param, _)| param.name() == name)
                    .unwrap();
                assert_eq!(stored.shape, [squared.rows(), squared.cols()]);
                let weights = stored.to_f32().unwrap();
                let steepest = (0..weights.len())
                    .max_by(|&a, &b| squared.values()[a].total_cmp(&squared.values()[b]));
                let at = steepest.unwrap();
                // The set holds the transpose of what the folder does.
                let own = at % squared.cols() * squared.rows() + at / squared.cols();
                let name = format!("{path}.{name}");
                let step = 4e-3;
                let [up, down] =
                    [step, -step].map(|by| moved(&evaluation, &adapters, &name, own, by));
                let slope = (up - down) / f64::from(2.0 * step);
                let g = f64::from(squared.values()[at]).sqrt();
                assert!(
                    (g - slope.abs()).abs() < 0.02 * g + 2e-4,
                    "{name}: {g} {slope}"
                );
                let s = f64::from(sensitivity.values()[at]);
                assert!(
                    (s - g * f64::from(weights[at].abs())).abs() < 1e-4 * g,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn gradients_of_single_rows_are_squared_before_they_are_averaged() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let options = Calibration {
        batch_size: 1,
        gradients: true,
        ..all()
    };
    let told = told(&run, &options);
    let (tracked, grand) = (run.adapters().tracked(), run.adapters().grand());
    let mut sums: Vec<[Tensor<2>; 2]> = Vec::new();
    for row in 0..24 {
        let batch = run
            .task()
            .batch(Split::Test, &vec![vec![row]], run.device());
        let batch = batch.unwrap();
        let hidden = run
            .model()
            .states(&batch.input, &Pass::new(&tracked, &grand));
        let grads = run.readout().loss(run.model(), hidden, &batch).backward();
        let squares = tracked.gradients(&grads).into_iter();
        let squares: Vec<Tensor<2>> = squares.map(|g| g.unwrap().square()).collect();
        let squares = squares
            .chunks(2)
            .map(|pair| [pair[0].clone(), pair[1].clone()]);
        sums = match sums.is_empty() {
            true => squares.collect(),
            false => (sums.into_iter().zip(squares))
                .map(|([a, b], [c, d])| [a + c, b + d])
                .collect(),
        };
    }
    for (adapter, [a, b]) in run.adapters().adapters().iter().zip(sums) {
        let found = told[adapter.path()].gradients.as_ref().unwrap();
        let mean = |sum: Tensor<2>| host(sum.div_scalar(24.0).transpose());
        assert_close(&found.squared.a, &mean(a), 1e-4);
        assert_close(&found.squared.b, &mean(b), 1e-4);
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let evaluation = Evaluation::new(&run, Split::Test).unwrap();
    let config = AdapterConfig {
        init: Init::Pissa,
        ..AdapterConfig::lora(2, 4.0)
    };
    let pissa = AdapterSet::new(run.model(), &config, &Grouping::Layer, 1).unwrap();
    let options = Calibration {
        gradients: true,
        ..all()
    };
    let error = calibrate(&evaluation, &pissa, &options).unwrap_err();
    assert!(
        matches!(&error, Error::Doubled { module } if module == LOWEST),
        "{error}"
    );
    // Read from its folder it is plain LoRA, of twice the rank.
    let read = run.adapters_from(&pissa.to_folder().unwrap()).unwrap();
    let told = calibrate(&evaluation, &read, &options).unwrap();
    assert_eq!(told[LOWEST].gradients.as_ref().unwrap().squared.a.rows(), 4);
    assert!(calibrate(&evaluation, &pissa, &all()).is_ok());
    let none = Calibration {
        samples: 0,
        ..all()
    };
    let error = calibrate(&evaluation, run.adapters(), &none).unwrap_err();
    assert!(error.to_string().contains("`samples` = 0"), "{error}");
}
