use std::path::Path;

use rayon::prelude::*;

use super::message::messages;
use super::{LanguageFormat, LanguageOptions, LanguageTokenizer, Message, spans};
use crate::cell::{Cell, Rows};
use crate::error::{Error, Place};
use crate::fingerprint::Fingerprint;
use crate::table;

/// Tokens of one sample, and which of them a model learns to say; both vectors have one entry a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether the token is a target, whose loss counts. The first never is: nothing comes before it.
    pub learn: Vec<bool>,
}

impl Sequence {
    pub(super) fn new(ids: Vec<u32>, mut learn: Vec<bool>) -> Self {
        if let Some(first) = learn.first_mut() {
            *first = false;
        }
        Self { ids, learn }
    }

    pub(super) fn all(ids: Vec<u32>) -> Self {
        let learn = vec![true; ids.len()];
        Self::new(ids, learn)
    }

    /// How many of the tokens are targets.
    pub fn targets(&self) -> usize {
        self.learn.iter().filter(|&&learn| learn).count()
    }
}

/// Samples for language modelling, in the order of their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanguageDataset {
    /// The samples, each with a target.
    pub sequences: Vec<Sequence>,
    /// How many rows were cut to the maximal length.
    pub truncated: usize,
    /// How many rows were left out because no target was left of them.
    pub skipped: usize,
}

impl LanguageDataset {
    /// Reads a table of conversations, of prompts and completions, or of texts, in the formats of
    /// [`Dataset::load`](crate::Dataset::load); where a format has no lists, a conversation is JSON in a text.
    ///
    /// A conversation is what the chat template makes of it; targets are the assistant's turns, each with the token that
    /// ends it. A completion is joined to its prompt as text, begun as the tokenizer says and ended by EOS; targets are
    /// its tokens and EOS, and a token that reaches from the prompt into the completion. Of a text all tokens are targets.
    ///
    /// # Errors
    /// Whatever is wrong with the file, by path, row and column; rows of several formats; a chat template that refuses a
    /// conversation, or writes its beginning differently alone; no row with a target.
    pub fn load(
        path: impl AsRef<Path>,
        options: &LanguageOptions,
        tokenizer: &LanguageTokenizer,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut table = Table {
            options,
            format: options.format,
            rows: Vec::new(),
        };
        table::read(path, &mut table)?;
        if table.rows.is_empty() {
            return Err(Error::NoRows { path: path.into() });
        }
        let rows = table.rows.len();
        // The error of the first row that has one, whichever thread is first.
        let encoded: Vec<Result<Sequence, Error>> = table
            .rows
            .into_par_iter()
            .map(|(at, row)| row.encode(&at, options, tokenizer))
            .collect();
        let mut data = Self {
            sequences: Vec::with_capacity(rows),
            truncated: 0,
            skipped: 0,
        };
        for sequence in encoded {
            data.add(sequence?, options.max_tokens);
        }
        match data.sequences.is_empty() {
            true => Err(Error::NoTargets {
                path: path.into(),
                rows,
                max_tokens: options.max_tokens,
            }),
            false => Ok(data),
        }
    }

    fn add(&mut self, mut sequence: Sequence, max_tokens: usize) {
        self.truncated += usize::from(sequence.ids.len() > max_tokens);
        sequence.ids.truncate(max_tokens);
        sequence.learn.truncate(max_tokens);
        match sequence.learn.contains(&true) {
            true => self.sequences.push(sequence),
            false => self.skipped += 1,
        }
    }

    /// The lengths of the samples, in tokens.
    pub fn lengths(&self) -> Vec<usize> {
        let lengths = self.sequences.iter().map(|sequence| sequence.ids.len());
        lengths.collect()
    }

    /// A 64-bit FNV-1a hash of tokens and targets in their order, by which a resumed run tells that its data have changed.
    ///
    /// It sees what is learnt, thus another tokenizer or chat template too, and neither version nor machine.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fingerprint::default();
        hash.number(self.sequences.len());
        for Sequence { ids, learn } in &self.sequences {
            hash.number(ids.len());
            for (&id, &learn) in ids.iter().zip(learn) {
                hash.number(id as usize * 2 + usize::from(learn));
            }
        }
        hash.finish()
    }
}

enum Row {
    Messages(Vec<Message>),
    Completion { prompt: String, completion: String },
    Text(String),
}

impl Row {
    fn encode(
        &self,
        at: &Place,
        options: &LanguageOptions,
        tokenizer: &LanguageTokenizer,
    ) -> Result<Sequence, Error> {
        let only = options.completions_only;
        let sequence = match self {
            Row::Messages(messages) => spans::conversation(tokenizer, messages, only, at),
            Row::Completion { prompt, completion } => {
                spans::completion(tokenizer, prompt, completion, only)
            }
            Row::Text(text) => tokenizer.encode(text, true).map(Sequence::all),
        };
        sequence.map_err(|error| error.at(at))
    }
}

struct Table<'a> {
    options: &'a LanguageOptions,
    /// As asked for, or as the first row has told.
    format: Option<LanguageFormat>,
    rows: Vec<(Place, Row)>,
}

impl Table<'_> {
    fn told(&self, at: Place, names: &[&str]) -> Result<LanguageFormat, Error> {
        let columns = &self.options.columns;
        let has = |format: &LanguageFormat| {
            let needed = columns.of(*format);
            needed.iter().all(|column| names.contains(column))
        };
        let listed = |formats: &[LanguageFormat]| {
            let of = |&format: &LanguageFormat| columns.of(format).join(" and ");
            formats.iter().map(of).collect::<Vec<String>>()
        };
        let found: Vec<LanguageFormat> = LanguageFormat::ALL.into_iter().filter(has).collect();
        match (self.format, &found[..]) {
            // The first row has told, and this one says something else.
            (Some(first), [other, ..]) if self.options.format.is_none() && !has(&first) => {
                Err(Error::MixedRows {
                    at,
                    first: listed(&[first]).join(""),
                    found: listed(&[*other]).join(""),
                })
            }
            (Some(format), _) | (None, &[format]) => Ok(format),
            (None, []) => Err(Error::UnknownColumns {
                at,
                names: names.iter().map(|&name| name.to_owned()).collect(),
                known: listed(&LanguageFormat::ALL),
            }),
            (None, several) => Err(Error::Ambiguous {
                at,
                found: listed(several),
                option: "format",
            }),
        }
    }
}

impl Rows for Table<'_> {
    fn columns(&mut self, at: Place, names: &[&str]) -> Result<Vec<String>, Error> {
        let format = self.told(at, names)?;
        self.format = Some(format);
        let columns = self.options.columns.of(format);
        Ok(columns.into_iter().map(str::to_owned).collect())
    }

    fn row(&mut self, at: Place, cells: Vec<Cell>) -> Result<(), Error> {
        let columns = &self.options.columns;
        let mut cells = cells.into_iter();
        let mut next = || cells.next().unwrap_or(Cell::Null);
        let row = match self.format.unwrap_or(LanguageFormat::Text) {
            LanguageFormat::Messages => {
                let value = next().json(&at, &columns.messages)?;
                Row::Messages(messages(&at, &columns.messages, value)?)
            }
            LanguageFormat::Completion => Row::Completion {
                prompt: next().text(&at, &columns.prompt)?,
                completion: next().text(&at, &columns.completion)?,
            },
            LanguageFormat::Text => Row::Text(next().text(&at, &columns.text)?),
        };
        self.rows.push((at, row));
        Ok(())
    }
}
