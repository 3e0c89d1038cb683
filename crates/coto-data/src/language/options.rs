use serde::{Deserialize, Serialize};

/// What the rows of a table for language modelling are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LanguageFormat {
    /// A conversation: a list of `{"role": …, "content": …}`, rendered by the chat template.
    Messages,
    /// A text to start from, and the text to go on with.
    Completion,
    /// A text.
    Text,
}

/// Which columns of a table hold the texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageColumns {
    /// The conversation; `messages` by default.
    pub messages: String,
    /// The text to start from; `prompt` by default.
    pub prompt: String,
    /// The text to go on with; `completion` by default.
    pub completion: String,
    /// The text; `text` by default.
    pub text: String,
}

impl Default for LanguageColumns {
    fn default() -> Self {
        Self {
            messages: "messages".into(),
            prompt: "prompt".into(),
            completion: "completion".into(),
            text: "text".into(),
        }
    }
}

impl LanguageColumns {
    /// The columns that a format needs.
    pub(super) fn of(&self, format: LanguageFormat) -> Vec<&str> {
        match format {
            LanguageFormat::Messages => vec![&self.messages],
            LanguageFormat::Completion => vec![&self.prompt, &self.completion],
            LanguageFormat::Text => vec![&self.text],
        }
    }
}

/// How a table becomes sequences of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageOptions {
    /// What the rows are; by default the columns of the first row tell.
    pub format: Option<LanguageFormat>,
    /// The names of the columns.
    pub columns: LanguageColumns,
    /// Whether only completions and what the assistant says are learnt, as by default, or prompts too.
    pub completions_only: bool,
    /// Longer sequences are cut on the right; 1024 by default.
    pub max_tokens: usize,
}

impl Default for LanguageOptions {
    fn default() -> Self {
        Self {
            format: None,
            columns: LanguageColumns::default(),
            completions_only: true,
            max_tokens: 1024,
        }
    }
}

impl LanguageFormat {
    pub(super) const ALL: [Self; 3] = [Self::Messages, Self::Completion, Self::Text];
}
