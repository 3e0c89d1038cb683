use coto_coalition::stream;
use coto_lowrank::{Gradients, LowRank, Matrix, PerFactor, Statistics};
use coto_peft::{Config, Folder, HostTensor, Param};
use rand::RngExt;

/// An adapter of `layers` layers with a query and a value each, of ranks 1 to 6, several alphas, and sizes in steps of four.
pub fn folder(layers: usize, rslora: bool, seed: u64) -> Folder {
    let mut draws = stream(seed, "folder");
    let paths = (0..layers)
        .flat_map(|layer| ["query", "value"].map(|kind| format!("layers.{layer}.{kind}")));
    let modules: Vec<(String, usize, f64)> = paths
        .map(|path| {
            (
                path,
                draws.random_range(1..7),
                [1.0, 2.5, 8.0][draws.random_range(0..3)],
            )
        })
        .collect();
    let mut config = Config::lora(4, 8.0);
    config.use_rslora = rslora;
    let mut folder = Folder::new(config.for_modules(&modules));
    for (module, (path, rank, _)) in modules.iter().enumerate() {
        let [out, input] = [0, 1].map(|_| 4 * draws.random_range(2..5));
        let seed = seed.wrapping_add(module as u64);
        folder.insert(path, Param::LoraA, tensor(&noise(*rank, input, seed, "a")));
        folder.insert(path, Param::LoraB, tensor(&noise(out, *rank, seed, "b")));
    }
    folder
}

pub fn noise(rows: usize, cols: usize, seed: u64, name: &str) -> Matrix {
    let mut draws = stream(seed, name);
    Matrix::from_fn(rows, cols, |_, _| draws.random::<f32>() - 0.5)
}

pub fn tensor(matrix: &Matrix) -> HostTensor {
    HostTensor::from_f32([matrix.rows(), matrix.cols()], matrix.values()).unwrap()
}

/// A module's A and B.
pub fn factors(folder: &Folder, path: &str) -> [Matrix; 2] {
    let modules = folder.modules().unwrap();
    [Param::LoraA, Param::LoraB].map(|param| {
        let tensor = modules[path][&param];
        Matrix::new(tensor.shape[0], tensor.shape[1], tensor.to_f32().unwrap()).unwrap()
    })
}

/// ‖ΔW' − ΔW‖ / ‖ΔW‖.
pub fn gap(small: &LowRank, whole: &LowRank) -> f64 {
    let difference = small.b() * small.a() - whole.b() * whole.a();
    difference.norm_l2() / whole.norm()
}

/// Statistics of a module with correlated inputs and some sensitivities.
pub fn statistics(folder: &Folder, path: &str, samples: usize, seed: u64) -> Statistics {
    let [a, b] = factors(folder, path);
    let hidden =
        noise(samples, 3, seed, "hidden").to_f64() * noise(3, a.cols(), seed, "mix").to_f64();
    let inputs = hidden + noise(samples, a.cols(), seed, "own").to_f64();
    let positive = |name: &str, like: &Matrix| {
        let noise = noise(like.rows(), like.cols(), seed, name);
        Matrix::from_fn(like.rows(), like.cols(), |i, j| noise.row(i)[j].abs())
    };
    let per = |name: &str| PerFactor {
        a: positive(&format!("{name} a"), &a),
        b: positive(&format!("{name} b"), &b),
    };
    Statistics {
        inputs: Matrix::rounded(inputs.as_ref()),
        gradients: Some(Gradients {
            squared: per("squared"),
            sensitivity: per("sensitivity"),
        }),
    }
}
