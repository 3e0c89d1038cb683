use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message::messages;
use super::{LanguageTokenizer, Message};
use crate::cell::{Cell, Rows, wrong_type};
use crate::error::{Error, Nearest, Place, shorten};
use crate::table;

/// Which columns of a table hold questions and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuestionColumns {
    /// What the model is given; by default the one that is there of `context` and `question` for multiple choice, and of
    /// `prompt`, `messages` and `question` otherwise.
    pub prompt: Option<String>,
    /// The choices, a list of texts; `choices` by default.
    pub choices: String,
    /// The answer; `answer` by default.
    pub answer: String,
}

impl Default for QuestionColumns {
    fn default() -> Self {
        Self {
            prompt: None,
            choices: "choices".into(),
            answer: "answer".into(),
        }
    }
}

/// A text to go on with, and several ways to do so of which one is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipleChoice {
    /// The text to go on with.
    pub context: String,
    /// At least two different texts, to be put behind `context` as they are.
    pub choices: Vec<String>,
    /// The index of the right one, from 0.
    pub answer: usize,
}

/// What a model is given to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// A conversation, to be continued by the assistant.
    Messages(Vec<Message>),
}

impl Prompt {
    /// The tokens to go on from: of a text as the tokenizer begins a sequence, of a conversation as the chat template has it.
    ///
    /// # Errors
    /// If the tokenizer or the chat template refuses it, or there is no template.
    pub fn encode(&self, tokenizer: &LanguageTokenizer) -> Result<Vec<u32>, Error> {
        match self {
            Prompt::Messages(messages) => tokenizer.encode(&tokenizer.chat(messages, true)?, false),
            Prompt::Text(text) => {
                let mut ids = tokenizer.encode(text, true)?;
                // What is to be continued has no end.
                if ids
                    .last()
                    .is_some_and(|id| tokenizer.eos_ids().contains(id))
                {
                    ids.pop();
                }
                Ok(ids)
            }
        }
    }
}

/// A question with the answer that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub prompt: Prompt,
    /// The answer.
    pub answer: String,
}

impl MultipleChoice {
    /// Reads a table in the formats of [`Dataset::load`](crate::Dataset::load): a text, the choices (a list, or its JSON as
    /// text), and the answer, an index from 0 or one of the choices.
    ///
    /// # Errors
    /// Whatever is wrong with the file, by path, row and column; fewer than two choices, or the same twice; an answer that
    /// is no choice.
    pub fn load(path: impl AsRef<Path>, columns: &QuestionColumns) -> Result<Vec<Self>, Error> {
        let usual = &["context", "question"];
        load(
            path.as_ref(),
            columns,
            usual,
            Some(&columns.choices),
            choice,
        )
    }
}

impl Question {
    /// Reads a table in the formats of [`Dataset::load`](crate::Dataset::load): a text or a list of messages, and the
    /// answer, a text or a number.
    ///
    /// # Errors
    /// Whatever is wrong with the file, by path, row and column.
    pub fn load(path: impl AsRef<Path>, columns: &QuestionColumns) -> Result<Vec<Self>, Error> {
        let usual = &["prompt", "messages", "question"];
        load(path.as_ref(), columns, usual, None, question)
    }
}

/// Makes an item of the cells of a row, in the order of the columns.
type Parse<T> = fn(at: &Place, columns: &[String], cells: Vec<Cell>) -> Result<T, Error>;

fn load<T>(
    path: &Path,
    names: &QuestionColumns,
    usual: &'static [&'static str],
    choices: Option<&str>,
    parse: Parse<T>,
) -> Result<Vec<T>, Error> {
    let mut table = Table {
        names,
        usual,
        choices,
        parse,
        columns: Vec::new(),
        items: Vec::new(),
    };
    table::read(path, &mut table)?;
    match table.items.is_empty() {
        true => Err(Error::NoRows { path: path.into() }),
        false => Ok(table.items),
    }
}

struct Table<'a, T> {
    names: &'a QuestionColumns,
    usual: &'static [&'static str],
    choices: Option<&'a str>,
    parse: Parse<T>,
    columns: Vec<String>,
    items: Vec<T>,
}

impl<T> Rows for Table<'_, T> {
    fn columns(&mut self, at: Place, names: &[&str]) -> Result<Vec<String>, Error> {
        let there: Vec<&str> = (self.usual.iter().copied())
            .filter(|column| names.contains(column))
            .collect();
        let prompt = match (&self.names.prompt, &there[..]) {
            (Some(column), _) => column,
            (None, &[column]) => column,
            (None, []) => {
                return Err(Error::UnknownColumns {
                    at,
                    names: names.iter().map(|&name| name.to_owned()).collect(),
                    known: self.usual.iter().map(|&name| name.to_owned()).collect(),
                });
            }
            (None, several) => {
                return Err(Error::Ambiguous {
                    at,
                    found: several.iter().map(|&name| name.to_owned()).collect(),
                    option: "prompt",
                });
            }
        };
        let columns = [prompt]
            .into_iter()
            .chain(self.choices)
            .chain([&*self.names.answer]);
        self.columns = columns.map(str::to_owned).collect();
        Ok(self.columns.clone())
    }

    fn row(&mut self, at: Place, cells: Vec<Cell>) -> Result<(), Error> {
        self.items.push((self.parse)(&at, &self.columns, cells)?);
        Ok(())
    }
}

fn question(at: &Place, columns: &[String], cells: Vec<Cell>) -> Result<Question, Error> {
    let [prompt, answer] = cells.try_into().unwrap_or([Cell::Null, Cell::Null]);
    let prompt = match prompt {
        Cell::Json(value) => Prompt::Messages(messages(at, &columns[0], value)?),
        cell => Prompt::Text(cell.text(at, &columns[0])?),
    };
    let answer = match answer {
        Cell::Json(Value::Number(number)) => number.to_string(),
        cell => cell.scalar(at, &columns[1])?,
    };
    Ok(Question { prompt, answer })
}

fn choice(at: &Place, columns: &[String], cells: Vec<Cell>) -> Result<MultipleChoice, Error> {
    let [context, choices, answer] =
        cells
            .try_into()
            .unwrap_or([Cell::Null, Cell::Null, Cell::Null]);
    let context = context.text(at, &columns[0])?;
    let choices = texts(at, &columns[1], choices.json(at, &columns[1])?)?;
    let index = |text: &str| {
        text.parse()
            .ok()
            .filter(|&index: &usize| index < choices.len())
    };
    let same = |text: &str| choices.iter().position(|choice| choice == text);
    let number = matches!(answer, Cell::Scalar(_));
    let text = answer.scalar(at, &columns[2])?;
    let answer = match number {
        true => index(&text),
        false => same(&text).or_else(|| index(&text)),
    };
    match answer {
        Some(answer) => Ok(MultipleChoice {
            context,
            choices,
            answer,
        }),
        None => Err(Error::NoSuchChoice {
            at: at.clone(),
            column: columns[2].clone(),
            nearest: Nearest::of(&text, choices.iter().map(String::as_str)),
            answer: shorten(&text),
        }),
    }
}

/// The choices: at least two, all different.
fn texts(at: &Place, column: &str, value: Value) -> Result<Vec<String>, Error> {
    let wanted = "a list of at least two texts";
    let Value::Array(list) = value else {
        return Err(wrong_type(at, column, super::found(&value), wanted));
    };
    let mut texts: Vec<String> = Vec::with_capacity(list.len());
    for (index, value) in list.into_iter().enumerate() {
        let Value::String(text) = value else {
            let column = format!("{column}[{index}]");
            return Err(wrong_type(at, &column, super::found(&value), "text"));
        };
        if texts.contains(&text) {
            let found = format!("`{}` twice", shorten(&text));
            return Err(wrong_type(at, column, &found, "a list of different texts"));
        }
        texts.push(text);
    }
    match texts.len() {
        0 | 1 => Err(wrong_type(at, column, "a shorter list", wanted)),
        _ => Ok(texts),
    }
}
