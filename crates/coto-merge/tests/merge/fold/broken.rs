use std::fs;
use std::path::Path;

use coto_merge::fold::fold;
use coto_peft::{Config, Dtype, Param};

use super::base::{IN, OUT, RANK, adapter, base, name, noise, replace, tensor};

#[test]
fn broken_inputs_are_named_and_nothing_is_written() {
    type Break = fn(&Path);
    let cases: [(&str, usize, Break); 13] = [
        (
            "model-00002-of-00003.safetensors`, which is not there",
            3,
            |base| {
                fs::remove_file(base.join("model-00002-of-00003.safetensors")).unwrap();
            },
        ),
        (
            "model-00003-of-00003.safetensors` is cut short",
            3,
            |base| {
                let path = base.join("model-00003-of-00003.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
            },
        ),
        ("cut short", 1, |base| {
            fs::write(base.join("model.safetensors"), [255; 100]).unwrap()
        }),
        ("names tensor `model.ghost`", 3, |base| {
            edit_index(base, |text| text.replace("model.steps", "model.ghost"));
        }),
        (
            "`../model.safetensors` is not the name of a file",
            3,
            |base| {
                edit_index(base, |text| {
                    text.replace("model-00001-of-00003", "../model")
                });
            },
        ),
        ("index.json`: expected", 3, |base| {
            edit_index(base, |_| "nothing".to_owned())
        }),
        ("only a pickle", 1, |base| {
            fs::remove_file(base.join("model.safetensors")).unwrap()
        }),
        ("safetensors` and in `", 3, |base| {
            let (one, two) = (
                "model-00001-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
            );
            fs::copy(base.join(one), base.join(two)).unwrap();
        }),
        (
            "tensor `model.layers.1.q.weight` has shape [6, 8], but the update of module `model.layers.1.q` has [8, 6]",
            1,
            |base| {
                replace(
                    base,
                    &name(1),
                    Some((
                        &name(1),
                        tensor(Dtype::F32, &[IN, OUT], &noise(IN * OUT, 1)),
                    )),
                );
            },
        ),
        ("module `model.layers.1.q` is in no tensor", 1, |base| {
            let other = tensor(Dtype::F32, &[OUT, IN], &noise(IN * OUT, 1));
            replace(base, &name(1), Some(("model.layers.1.qkv.weight", other)));
        }),
        (
            "`model.layers.1.q.weight` of module `model.layers.1.q` is I8",
            1,
            |base| {
                replace(
                    base,
                    &name(1),
                    Some((&name(1), tensor(Dtype::I8, &[OUT, IN], &noise(IN * OUT, 1)))),
                );
            },
        ),
        (
            "`a.model.layers.1.q.weight`, `b.model.layers.1.q.weight`",
            1,
            |base| {
                let other = || tensor(Dtype::F32, &[OUT, IN], &noise(IN * OUT, 1));
                replace(base, &name(1), Some(("a.model.layers.1.q.weight", other())));
                replace(
                    base,
                    "model.steps",
                    Some(("b.model.layers.1.q.weight", other())),
                );
            },
        ),
        ("row 0: column 0 becomes 7", 1, |base| {
            replace(
                base,
                &name(1),
                Some((
                    &name(1),
                    tensor(Dtype::F16, &[OUT, IN], &[65504.0; OUT * IN]),
                )),
            );
        }),
    ];
    for (says, shards, damage) in cases {
        let (place, base) = base(Dtype::F32, shards);
        damage(&base);
        let out = place.path().join("out");
        // HiRA, so that a large number grows.
        let mut folder = adapter(Config::hira(RANK), &[0, 1, 2]);
        folder.insert(
            "model.layers.1.q",
            Param::HiraA,
            tensor(Dtype::F32, &[RANK, IN], &[0.2; RANK * IN]),
        );
        folder.insert(
            "model.layers.1.q",
            Param::HiraB,
            tensor(Dtype::F32, &[OUT, RANK], &[0.2; OUT * RANK]),
        );
        let error = fold(&base, &[(&folder, 1.0)], &out)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{says}: {error}");
        if says.contains("in no tensor") {
            assert!(error.contains("`model.layers.1.qkv.weight`"), "{error}");
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "{says}");
    }
}

fn edit_index(base: &Path, edit: impl Fn(String) -> String) {
    let path = base.join("model.safetensors.index.json");
    fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
}
