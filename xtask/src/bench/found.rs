//! What the benchmark found: medians, spread, ratios; as a table and as one object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{reference, rounds};

/// By measure, what was found: milliseconds, MiB or shares.
pub type Times = BTreeMap<&'static str, Vec<f64>>;

/// What one shape and variant came to.
#[derive(Default)]
pub struct Sides {
    /// Ours.
    pub ours: Times,
    /// PyTorch's.
    pub peer: Times,
    /// What is asked of ours alone.
    pub alone: Times,
}

/// By shape, then by variant.
pub type Found = BTreeMap<String, BTreeMap<&'static str, Sides>>;

/// Adds what a turn found.
pub fn add(found: &mut Found, turn: Found) {
    for (shape, variants) in turn {
        for (variant, sides) in variants {
            let all = found.entry(shape.clone()).or_default();
            let all = all.entry(variant).or_default();
            merge(&mut all.ours, sides.ours);
            merge(&mut all.peer, sides.peer);
            merge(&mut all.alone, sides.alone);
        }
    }
}

fn merge(all: &mut Times, new: Times) {
    for (measure, values) in new {
        all.entry(measure).or_default().extend(values);
    }
}

/// The median and half the range between the quartiles.
pub fn middle(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (sorted.len() - 1) as f64 * share;
        let (low, high) = (
            sorted[place.floor() as usize],
            sorted[place.ceil() as usize],
        );
        low + (high - low) * place.fract()
    };
    (at(0.5), (at(0.75) - at(0.25)) / 2.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Shape, variant, measure, ours and the peer's.
fn rows(found: &Found) -> impl Iterator<Item = (&str, &str, &str, &[f64], &[f64])> {
    found.iter().flat_map(|(shape, variants)| {
        variants.iter().flat_map(move |(variant, sides)| {
            let peer = variants.get(reference(variant)).map(|sides| &sides.peer);
            sides.ours.iter().filter_map(move |(measure, ours)| {
                let theirs = peer?.get(measure)?;
                Some((
                    shape.as_str(),
                    *variant,
                    *measure,
                    ours.as_slice(),
                    theirs.as_slice(),
                ))
            })
        })
    })
}

/// Where the time goes that a CoTo run of ours saves over a plain one, in milliseconds a step.
struct Breakdown {
    plain: f64,
    coto: f64,
    /// With every state of the frozen prefix in the cache.
    cached: f64,
    /// Of adapters that are off; what backward saves is known as well as this.
    adapters: f64,
    /// The standard error of that.
    error: f64,
    /// Of layers below the lowest adapter, which nothing goes back through.
    backward: f64,
    /// The forward pass of those layers: what a cache of their states could save at most.
    prefix: f64,
}

impl Breakdown {
    fn of(alone: &Times) -> Option<Self> {
        let value = |name| alone.get(name).map(|values| mean(values));
        let (plain, coto) = (value(rounds::PLAIN)?, value(rounds::COTO)?);
        // With layer 0 on besides, everything goes back as in a plain run; what is saved then is adapters, if somewhat fewer.
        let off = value(rounds::OFF)? / value(rounds::OFF_ABOVE)?.max(f64::MIN_POSITIVE);
        let pairs = alone.get(rounds::PLAIN)?.iter();
        let pairs = pairs.zip(alone.get(rounds::TO_THE_END)?);
        let saved: Vec<f64> = pairs.map(|(plain, coto)| (plain - coto) * off).collect();
        let adapters = mean(&saved);
        let squares: Vec<f64> = saved.iter().map(|ms| (ms - adapters).powi(2)).collect();
        Some(Self {
            plain,
            coto,
            cached: value(rounds::CACHED)?,
            adapters,
            error: (mean(&squares) / (saved.len() as f64 - 1.0).max(1.0)).sqrt(),
            backward: plain - coto - adapters,
            prefix: value(rounds::PREFIX)?,
        })
    }
}

/// A step beside what the machine could do.
struct Limit {
    /// GFLOP of a step with all adapters on.
    step: f64,
    /// GFLOP/s of a large product.
    peak: f64,
    /// Milliseconds of the step.
    ours: f64,
}

impl Limit {
    fn of(sides: &Sides) -> Option<Self> {
        Some(Self {
            step: middle(sides.alone.get(rounds::FLOPS)?).0,
            peak: middle(sides.alone.get(rounds::PEAK)?).0,
            ours: middle(sides.ours.get("step_all")?).0,
        })
    }

    /// Milliseconds of the step, were all of it products.
    fn ideal(&self) -> f64 {
        1e3 * self.step / self.peak
    }
}

/// What there is of some part, by shape and variant.
fn each<'a, T>(
    found: &'a Found,
    part: impl Fn(&'a Sides) -> Option<T> + Copy + 'a,
) -> impl Iterator<Item = (&'a str, &'a str, T)> {
    found.iter().flat_map(move |(shape, variants)| {
        let of = move |(variant, sides): (&&'a str, &'a Sides)| {
            Some((shape.as_str(), *variant, part(sides)?))
        };
        variants.iter().filter_map(of)
    })
}

/// Shape, variant, measure, then ours, the peer's and their ratio; and under their own names what ours has alone.
pub fn object(found: &Found) -> Value {
    let mut object = Map::new();
    for (shape, variant, measure, ours, peer) in rows(found) {
        let (ours, peer) = (middle(ours).0, middle(peer).0);
        let values = json!({"ours": ours, "peer": peer, "ratio": ours / peer});
        *place(&mut object, &[shape, variant, measure]) = values;
    }
    for (shape, variant, part) in each(found, |sides| Breakdown::of(&sides.alone)) {
        *place(&mut object, &["breakdown", shape, variant]) = json!({
            "plain_step": part.plain,
            "coto_step": part.coto,
            "ratio": part.coto / part.plain,
            "cached_step": part.cached,
            "cached_ratio": part.cached / part.plain,
            "saved_adapters": part.adapters,
            "saved_adapters_error": part.error,
            "saved_prefix_backward": part.backward,
            "saved_cache": part.coto - part.cached,
            "prefix_forward": part.prefix,
        });
    }
    for (shape, variant, limit) in each(found, Limit::of) {
        *place(&mut object, &["limit", shape, variant]) = json!({
            "gflop": limit.step,
            "peak_gflop_per_s": limit.peak,
            "ideal": limit.ideal(),
            "ours": limit.ours,
            "share": limit.ideal() / limit.ours,
        });
    }
    Value::Object(object)
}

/// The place at the end of a path of keys, made if it is not there.
fn place<'a>(object: &'a mut Map<String, Value>, path: &[&str]) -> &'a mut Value {
    let (first, rest) = path.split_first().expect("a key");
    let mut place = object.entry(*first).or_insert(Value::Null);
    for key in rest {
        place = &mut place[*key];
    }
    place
}

/// All of it, in Markdown.
pub fn table(found: &Found) -> String {
    let mut text = String::from(
        "| rows x width | adapter | measure | Rust | PyTorch + PEFT | ratio |\n|---|---|---|---|---|---|\n",
    );
    for (shape, variant, measure, ours, peer) in rows(found) {
        let ((a, da), (b, db)) = (middle(ours), middle(peer));
        let ratio = a / b;
        let cell = |value: f64, spread: f64| match measure {
            "finetune_accuracy" => format!("{:.1} ± {:.1} %", 100.0 * value, 100.0 * spread),
            "peak_memory" => format!("{value:.0} ± {spread:.0} MiB"),
            _ => format!("{value:.0} ± {spread:.0} ms"),
        };
        let (ours, peer) = (cell(a, da), cell(b, db));
        text += &format!("| {shape} | {variant} | {measure} | {ours} | {peer} | {ratio:.2} |\n");
    }
    let mut lines = each(found, |sides| Breakdown::of(&sides.alone)).peekable();
    if lines.peek().is_some() {
        text += "\n| rows x width | adapter | plain step | CoTo's mean step | ratio | with the cache | ratio | saved by adapters off \
                 | by backward of the prefix | by the cache | forward of the prefix |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    }
    for (shape, variant, part) in lines {
        text += &format!(
            "| {shape} | {variant} | {:.0} ms | {:.0} ms | {:.2} | {:.0} ms | {:.2} | {:.0} ± {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms |\n",
            part.plain,
            part.coto,
            part.coto / part.plain,
            part.cached,
            part.cached / part.plain,
            part.adapters,
            part.error,
            part.backward,
            part.coto - part.cached,
            part.prefix,
        );
    }
    let mut lines = each(found, Limit::of).peekable();
    if lines.peek().is_some() {
        text += "\n| rows x width | adapter | FLOPs of a step | peak | step at the peak | step | share of the peak |\n\
                 |---|---|---|---|---|---|---|\n";
    }
    for (shape, variant, limit) in lines {
        text += &format!(
            "| {shape} | {variant} | {:.1} GFLOP | {:.0} GFLOP/s | {:.0} ms | {:.0} ms | {:.2} |\n",
            limit.step,
            limit.peak,
            limit.ideal(),
            limit.ours,
            limit.ideal() / limit.ours,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_count_is_between_the_two() {
        assert_eq!(middle(&[4.0, 1.0]), (2.5, 0.75));
        assert_eq!(middle(&[4.0, 1.0, 2.0, 3.0]).0, 2.5);
        assert_eq!(middle(&[7.0]), (7.0, 0.0));
    }

    #[test]
    fn medians_and_ratios_are_those_of_the_lists() {
        let times = |step: &[f64]| Times::from([("step_all", step.to_vec())]);
        let lora = Sides {
            ours: times(&[3.0, 9.0, 1.0, 4.0, 2.0]),
            peer: times(&[2.0, 1.0, 2.0]),
            alone: Times::from([(rounds::FLOPS, vec![1.0]), (rounds::PEAK, vec![500.0])]),
        };
        let burn = Sides {
            ours: times(&[8.0]),
            ..Sides::default()
        };
        let variants = BTreeMap::from([("lora", lora), ("burn", burn)]);
        let found = Found::from([("32x64".to_owned(), variants)]);
        let object = object(&found);
        assert_eq!(object["32x64"]["lora"]["step_all"]["ratio"], 1.5);
        assert_eq!(object["32x64"]["burn"]["step_all"]["ratio"], 4.0);
        assert_eq!(object["limit"]["32x64"]["lora"]["share"], 2.0 / 3.0);
        assert_eq!(object.get("breakdown"), None);
        assert!(table(&found).contains("| 32x64 | lora | step_all | 3 ± 1 ms | 2 ± 0 ms | 1.50 |"));
    }

    #[test]
    fn the_savings_add_up() {
        let alone = Times::from([
            (rounds::PLAIN, vec![100.0, 100.0]),
            (rounds::COTO, vec![60.0, 90.0]),
            (rounds::CACHED, vec![45.0, 89.0]),
            // Four adapters of the five off that are off without layer 0.
            (rounds::TO_THE_END, vec![92.0, 92.0]),
            (rounds::OFF, vec![3.0, 2.0]),
            (rounds::OFF_ABOVE, vec![2.0, 2.0]),
            (rounds::PREFIX, vec![20.0, 0.0]),
        ]);
        let part = Breakdown::of(&alone).unwrap();
        assert_eq!(
            (part.coto, part.adapters, part.backward),
            (75.0, 10.0, 15.0)
        );
        assert_eq!((part.prefix, part.error), (10.0, 0.0));
        assert_eq!(part.coto - part.cached, 8.0);
    }
}
