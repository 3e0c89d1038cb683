use serde_json::Value;

use crate::RunConfig;

/// The fields on which the result depends.
pub(crate) fn essence(config: &RunConfig) -> Value {
    let mut value = serde_json::to_value(config).expect("a run file is JSON");
    for key in ["out", "device"] {
        value.as_object_mut().map(|map| map.remove(key));
    }
    // It changes time and memory, and the last bits at most.
    if let Some(optim) = value["optim"].as_object_mut() {
        optim.remove("prefix_cache_mib");
    }
    if let Some(eval) = value["eval"].as_object_mut() {
        eval.remove("checkpoint_every");
    }
    value
}

/// The first field in which two documents differ, and its values.
pub(crate) fn difference(a: &Value, b: &Value, at: &str) -> Option<(String, Value, Value)> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => x.keys().chain(y.keys()).find_map(|key| {
            let at = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            difference(&a[key], &b[key], &at)
        }),
        _ => (a != b).then(|| (at.to_owned(), a.clone(), b.clone())),
    }
}
