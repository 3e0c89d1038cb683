use burn::tensor::Device;
use coto_analysis::{End, Evaluation, Margins, ensemble};
use coto_train::{Head, Readout, Run, Split};

use crate::{stirred, trained};

fn ends(run: &Run) -> [End; 2] {
    [run.adapters().clone(), stirred(run.adapters().clone())].map(|adapters| End {
        adapters,
        readout: run.readout().clone(),
    })
}

#[test]
fn an_ensemble_averages_the_probabilities() {
    for language in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let run = trained(dir.path(), language);
        let ends = ends(&run);
        let evaluation = Evaluation::new(&run, Split::Test).unwrap();
        let probabilities = |end: &End| {
            let (mut told, grand) = (Vec::new(), [end.adapters.grand()]);
            let mut hear = |_, some: &[coto_analysis::Told]| {
                told.extend(some.iter().map(|told| f64::from(-told.loss).exp()));
            };
            evaluation
                .judge(&end.adapters, &grand, Margins::Unwanted, &mut hear)
                .unwrap();
            told
        };
        let [one, two] = [0, 1].map(|i| probabilities(&ends[i]));
        assert_ne!(one, two);
        let mixed = one.iter().zip(&two).map(|(p, q)| 0.3 * p + 0.7 * q);
        let mixed: Vec<f64> = mixed.collect();
        let n = mixed.len() as f64;
        let loss = -mixed.iter().map(|p| p.ln()).sum::<f64>() / n;
        let found = ensemble(&evaluation, &ends, &[0.3, 0.7]).unwrap();
        assert_eq!(found.weights, [0.3, 0.7]);
        assert!((found.means.loss - loss).abs() < 1e-5, "{found:?} {loss}");
        if !language {
            let right = mixed.iter().filter(|&&p| p > 0.5).count() as f64 / n;
            assert_eq!(found.means.accuracy, right);
        }
        // The loss is convex in the probabilities (Jensen).
        let whole = |end: &End| evaluation.whole(&end.adapters, Margins::Unwanted).unwrap();
        let [first, second] = [0, 1].map(|i| whole(&ends[i]));
        assert!(found.means.loss <= 0.3 * first.loss + 0.7 * second.loss);
        let alone = ensemble(&evaluation, &ends, &[1.0, 0.0]).unwrap().means;
        assert!((alone.loss - first.loss).abs() < 1e-5);
        assert_eq!(alone.accuracy, first.accuracy);
    }
}

#[test]
fn outputs_that_say_different_things_have_no_mean() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), false);
    let evaluation = Evaluation::new(&run, Split::Test).unwrap();
    let mut ends = ends(&run);
    let error = |ends: &[End], weights: &[f64]| {
        let error = ensemble(&evaluation, ends, weights).unwrap_err();
        error.to_string()
    };
    assert!(error(&ends, &[1.0]).contains("one for each adapter"));
    assert!(error(&ends, &[1.0, 1.0]).contains("`weights`"));
    assert!(error(&ends, &[1.5, -0.5]).contains("`weights`"));
    assert!(error(&[], &[]).contains("no adapter"));
    let d = run.readout().head().unwrap().weight.dims()[0];
    let three = Head::zeros(d, 3, &Device::flex());
    ends[1].readout = Readout::Classes(three.into());
    assert_eq!(
        error(&ends, &[0.5, 0.5]),
        "adapter 1 tells 3 classes, and the rows ask for 2 classes"
    );
}
