use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Nearest, Place};

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or another role that the chat template knows.
    pub role: String,
    /// What they say.
    pub content: String,
}

impl Message {
    /// A turn of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// The messages that a column holds: a list of objects, or its JSON as text.
pub(super) fn messages(at: &Place, column: &str, value: Value) -> Result<Vec<Message>, Error> {
    let wrong = |column: String, value: &Value, wanted| Error::WrongType {
        at: at.clone(),
        column,
        found: found(value).to_owned(),
        wanted,
    };
    let Value::Array(list) = value else {
        return Err(wrong(column.to_owned(), &value, "a list of messages"));
    };
    if list.is_empty() {
        return Err(Error::Null {
            at: at.clone(),
            column: column.to_owned(),
        });
    }
    let message = |(index, value)| {
        let place = format!("{column}[{index}]");
        let Value::Object(mut object) = value else {
            return Err(wrong(place, &value, "an object with `role` and `content`"));
        };
        let mut text = |key: &str| match object.shift_remove(key) {
            Some(Value::String(text)) => Ok(text),
            Some(value) => Err(wrong(format!("{place}.{key}"), &value, "text")),
            None => Err(Error::MissingColumn {
                at: at.clone(),
                column: format!("{place}.{key}"),
                nearest: Nearest::of(key, object.keys().map(String::as_str)),
            }),
        };
        let message = Message::new(text("role")?, text("content")?);
        match object.into_iter().find(|(_, value)| !value.is_null()) {
            Some((key, _)) => Err(Error::UnknownField {
                at: at.clone(),
                field: format!("{place}.{key}"),
            }),
            None => Ok(message),
        }
    };
    list.into_iter().enumerate().map(message).collect()
}

/// What a JSON value is, in words.
pub(crate) fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
