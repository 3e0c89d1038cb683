//! Loops that the compiler can vectorise, and the functions inside them.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// Numbers side by side in a fold.
const LANES: usize = 16;

/// Runs a loop with the widest vectors that the processor has: what of it is inlined into the closure. An adapter's `for_each` over
/// anything but a slice may not be, and then runs with the narrowest, so write `for`.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// A fold whose order is free: `f` is associative and `start` its neutral element.
#[inline(always)]
pub(crate) fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [start; LANES];
    for chunk in chunks {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(l, &x)| *l = f(*l, x));
    }
    lanes.iter().chain(rest).fold(start, |sum, &x| f(sum, x))
}

/// The sum of `f` over pairs.
#[inline(always)]
pub(crate) fn sum2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in xs.iter().zip(ys) {
        let pairs = x.iter().zip(y);
        lanes
            .iter_mut()
            .zip(pairs)
            .for_each(|(l, (&x, &y))| *l += f(x, y));
    }
    let rest: f32 = x.iter().zip(y).map(|(&x, &y)| f(x, y)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// e^x for x ≤ 0, to one unit in the last place or so; zero below the smallest normal number.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ leaves the nearest integer in the low bits of the sum.
    const SHIFT: f32 = 12_582_912.0;
    // Not `max`, which would lose a NaN.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.0 / 720.0;
    let p = ((((p * r + 1.0 / 120.0) * r + 1.0 / 24.0) * r + 1.0 / 6.0) * r + 0.5) * r;
    let p = (p + 1.0) * r + 1.0;
    let bits = shifted.to_bits().wrapping_sub(SHIFT.to_bits());
    let power = f32::from_bits(bits.wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { p * power }
}

/// σ(x) and σ'(x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    let t = 1.0 / (1.0 + e);
    (if x >= 0.0 { t } else { e * t }, e * t * t)
}

/// Φ(x) and φ(x): Abramowitz and Stegun's formula 7.1.26 for the error function needs the very exponential that the
/// density is made of.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * FRAC_1_SQRT_2 * x.abs());
    let poly = 1.061_405_4 * t - 1.453_152;
    let poly = ((poly * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6;
    let tail = 0.5 * poly * t * bell;
    (
        if x >= 0.0 { 1.0 - tail } else { tail },
        INV_SQRT_2PI * bell,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_take_every_element_once() {
        for n in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let sum: f32 = x.iter().sum();
            assert_eq!(fold(&x, 0.0, |a, b| a + b), sum, "{n}");
            assert_eq!(sum2(&x, &x, |a, _| a), sum, "{n}");
        }
    }

    #[test]
    fn sigmoids_saturate_and_keep_nan() {
        for (x, expected) in [
            (-200.0, (0.0, 0.0)),
            (0.0, (0.5, 0.25)),
            (200.0, (1.0, 0.0)),
        ] {
            assert_eq!(sigmoid(x), expected);
        }
        assert!(sigmoid(f32::NAN).0.is_nan() && sigmoid(f32::NAN).1.is_nan());
    }

    #[test]
    fn the_exponential_is_that_of_the_standard_library_and_keeps_nan() {
        for i in 0..=8700 {
            let x = -(i as f32) / 100.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!(
                (ours - theirs).abs() <= 3e-7 * theirs,
                "{x}: {ours} {theirs}"
            );
        }
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
