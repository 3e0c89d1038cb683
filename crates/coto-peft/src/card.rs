use std::fmt::Write;

use crate::{Config, Folder, PeftType};

/// The model card: front matter that model hubs read, and a few lines for people.
pub(crate) fn text(folder: &Folder) -> String {
    let config = &folder.config;
    let mut card = String::from("---\n");
    if let Some(base) = &config.base_model_name_or_path {
        // A JSON string is a YAML string.
        let _ = writeln!(
            card,
            "base_model: {}",
            serde_json::Value::from(base.as_str())
        );
    }
    let tag = config.peft_type.name().to_lowercase();
    let _ = write!(
        card,
        "library_name: peft\ntags:\n- {tag}\n- coto\n---\n\n# {} adapter\n\n",
        variant(config)
    );
    if let Some(summary) = folder
        .side
        .as_ref()
        .and_then(|side| side["summary"].as_str())
    {
        let _ = writeln!(card, "{summary}\n");
    }
    let _ = writeln!(card, "* rank: {}", config.r);
    if config.peft_type == PeftType::Lora {
        let _ = writeln!(card, "* alpha: {}", config.lora_alpha);
    }
    let _ = writeln!(card, "* target modules: `{}`", config.targets_text());
    let _ = writeln!(card, "* tensors: {}", folder.tensors.len());
    card
}

fn variant(config: &Config) -> &'static str {
    match (config.peft_type, config.use_dora, config.use_rslora) {
        (PeftType::Hira, ..) => "HiRA",
        (PeftType::Lora, true, _) => "DoRA",
        (PeftType::Lora, false, true) => "rsLoRA",
        (PeftType::Lora, false, false) => "LoRA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_card_has_front_matter_and_the_summary() {
        let mut config = Config::lora(4, 8.0).targets(["query"]);
        config.base_model_name_or_path = Some("org/base: \"x\"".into());
        let mut folder = Folder::new(config);
        folder.side = Some(json!({ "summary": "Trained with CoTo." }));
        let card = text(&folder);
        assert!(card.starts_with("---\nbase_model: \"org/base: \\\"x\\\"\"\nlibrary_name: peft\ntags:\n- lora\n- coto\n---\n"));
        assert!(
            card.contains("\n# LoRA adapter\n\nTrained with CoTo.\n\n* rank: 4\n"),
            "{card}"
        );
    }
}
