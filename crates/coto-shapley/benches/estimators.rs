//! One estimate of each kind on a game that costs next to nothing: 32 players, 3,200 evaluations.
//! Beside it: `python crates/coto-shapley/goldens/shapiq_time.py`.

use coto_coalition::Coalition;
use coto_shapley::{FnGame, Method, Shapley};
use criterion::{Criterion, criterion_group, criterion_main};

fn estimators(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("32 players, 3200 evaluations");
    group.sample_size(20);
    for method in Method::ALL
        .into_iter()
        .filter(|method| !matches!(method, Method::Auto | Method::Exact))
    {
        let estimate = Shapley::new(method).budget(3200).seed(1);
        let mut game = FnGame::new(32, |set: &Coalition| set.len() as f64);
        group.bench_function(method.name(), |bencher| {
            bencher.iter(|| estimate.run(&mut game).expect("an estimate"))
        });
    }
}

criterion_group!(benches, estimators);
criterion_main!(benches);
