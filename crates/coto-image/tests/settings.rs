//! Settings that cannot be meant, and pictures they do not fit.

use coto_image::{Mode, Picture, Processor};

fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused_by_key() {
    let table = [
        (
            r#""image_std": [0.5, 0, 0.5]"#,
            &["`image_std` is [0.5,0,0.5]", "above 0"][..],
        ),
        (r#""image_std": [0.5, 0.5]"#, &["`image_std`", "1 or 3"]),
        (
            r#""image_std": [0.5]"#,
            &["`image_std` is [0.5]", "as many numbers as `image_mean`"],
        ),
        (
            r#""image_mean": [0.1]"#,
            &[
                "`image_std` is not given",
                "as many numbers as `image_mean`",
            ],
        ),
        (r#""image_mean": ["a", 1, 1]"#, &["`image_mean`"]),
        (
            r#""image_mean": [1e300, 1, 1]"#,
            &["`image_mean`", "finite"],
        ),
        (r#""size": 0"#, &["`size` is 0"]),
        (r#""size": 1000000"#, &["`size` is 1000000", "4096"]),
        (r#""size": {"height": 3}"#, &["`size` is {\"height\":3}"]),
        (
            r#""size": {"shortest_edge": 3, "longest_edge": 9}"#,
            &["`size`", "shortest_edge"],
        ),
        (
            r#""size": {"shortest_edge": 3}"#,
            &["`size`", "centre crop"],
        ),
        (r#""resample": 6"#, &["`resample` is 6", "0 to 5"]),
        (
            r#""do_resize": "yes""#,
            &["`do_resize` is \"yes\"", "true or false"],
        ),
        (r#""do_center_crop": true"#, &["`crop_size` is not given"]),
        (r#""do_pad": true"#, &["`do_pad`: true is not supported"]),
        (
            r#""do_convert_rgb": true, "image_mean": [0.5], "image_std": [0.5]"#,
            &["`image_mean`", "`do_convert_rgb`"],
        ),
        (r#""rescale_factor": "x""#, &["`rescale_factor`"]),
    ];
    for (setting, parts) in table {
        let json = format!(r#"{{"image_processor_type": "ViTImageProcessor", {setting}}}"#);
        let message = Processor::from_json("folder/preprocessor_config.json", &json)
            .unwrap_err()
            .to_string();
        contains(&message, &["folder/preprocessor_config.json: "]);
        contains(&message, parts);
    }
    let refused = |json: &str| Processor::from_json("x", json).unwrap_err().to_string();
    contains(&refused("[]"), &["x: not a JSON object"]);
    contains(
        &refused("{}"),
        &["no `image_processor_type`", "known are ViTImageProcessor"],
    );
    contains(
        &refused(r#"{"image_processor_type": "DonutImageProcessor"}"#),
        &[
            "unknown image processor \"DonutImageProcessor\"",
            "CLIPImageProcessor",
        ],
    );
    let message = Processor::read("none/preprocessor_config.json")
        .unwrap_err()
        .to_string();
    contains(&message, &["cannot open none/preprocessor_config.json"]);
    // Off, unknown or null is no matter.
    let tolerated = r#"{"image_processor_type": "ViTImageProcessorFast", "do_pad": false, "new": [1], "size": null, "do_resize": null}"#;
    assert_eq!(
        Processor::from_json("x", tolerated).unwrap().shape(),
        [3, 224, 224]
    );
}

#[test]
fn a_thread_of_an_image_is_not_stretched_without_end() {
    let settings = r#"{"image_processor_type": "CLIPImageProcessor"}"#;
    let processor = Processor::from_json("x", settings).unwrap();
    let thread = Picture::new(60_000, 1, Mode::L, vec![9; 60_000]).unwrap();
    let message = processor.pixels(&thread).unwrap_err().to_string();
    contains(&message, &["60000×1 pixels", "13440000×224"]);
}
