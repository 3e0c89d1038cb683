//! Means, standard errors and intervals.

/// The mean of each player over units, and its standard error.
pub(crate) fn mean(n: usize, units: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let count = units.len() as f64;
    let means: Vec<f64> = (0..n)
        .map(|i| units.iter().map(|unit| unit[i]).sum::<f64>() / count)
        .collect();
    let error = |i: usize| {
        let squares: f64 = units.iter().map(|unit| (unit[i] - means[i]).powi(2)).sum();
        (squares / (count - 1.0) / count).sqrt()
    };
    let errors = (0..n).map(error).collect();
    (means, errors)
}

/// The mean of samples drawn along a stratified axis, and its standard error from the differences of neighbours on that axis
/// (collapsed strata: Cochran, Sampling Techniques, 5A.12). Samples are (place on the axis, value).
pub(crate) fn along(samples: &mut [(f64, f64)]) -> (f64, f64) {
    samples.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = samples.len() as f64;
    let mean = samples.iter().map(|sample| sample.1).sum::<f64>() / count;
    let squares: f64 = samples
        .windows(2)
        .map(|two| (two[1].1 - two[0].1).powi(2))
        .sum();
    (mean, (squares / (2.0 * (count - 1.0)) / count).sqrt())
}

/// The 97.5 % quantile of Student's t with so many degrees of freedom, to three digits (Fisher and Cornish, 1960).
pub(crate) fn quantile(freedom: f64) -> f64 {
    let (z, d) = (1.959_963_984_540_054_f64, freedom.max(1.5));
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let g3 = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + g1 / d + g2 / d.powi(2) + g3 / d.powi(3)
}

#[cfg(test)]
mod tests {
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, table) in [
            (3.0, 3.182),
            (4.0, 2.776),
            (10.0, 2.228),
            (30.0, 2.042),
            (1e9, 1.960),
        ] {
            assert!((super::quantile(freedom) / table - 1.0).abs() < 0.01);
        }
    }
}
