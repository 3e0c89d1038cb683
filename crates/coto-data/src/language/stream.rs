use super::LanguageTokenizer;
use crate::error::Error;

/// A character has at most four bytes, so that no more tokens can share one.
const TOKENS_OF_A_CHARACTER: usize = 4;

/// Turns ids into text one by one; see [`LanguageTokenizer::stream`].
///
/// The pieces joined are the text of all ids, as far as their bytes are UTF-8: a character whose bytes come in several tokens
/// waits for the last of them.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a LanguageTokenizer,
    skip_special: bool,
    /// Ids whose text was given away, kept because what follows is decoded differently without them, then those that wait.
    ids: Vec<u32>,
    /// How many of `ids` do not wait.
    given: usize,
}

impl<'a> DecodeStream<'a> {
    pub(super) fn new(tokenizer: &'a LanguageTokenizer, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            ids: Vec::new(),
            given: 0,
        }
    }

    /// The text that an id completes, often empty.
    ///
    /// # Errors
    /// If the id is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        if self.skip_special && self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        self.ids.push(id);
        let waiting = self.ids.len() - self.given;
        let text = match self.waiting() {
            Ok(text) => text,
            Err(error) => {
                self.ids.pop();
                return Err(error);
            }
        };
        if text.ends_with(char::REPLACEMENT_CHARACTER) && waiting < TOKENS_OF_A_CHARACTER {
            return Ok(String::new());
        }
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Ok(text)
    }

    /// The text of what still waits: at the end of a text that stops in the middle of a character, U+FFFD.
    ///
    /// # Errors
    /// None but those of [`LanguageTokenizer::decode`].
    pub fn finish(self) -> Result<String, Error> {
        self.waiting()
    }

    fn waiting(&self) -> Result<String, Error> {
        let decode = |ids| self.tokenizer.decode(ids, self.skip_special);
        let (before, all) = (decode(&self.ids[..self.given])?, decode(&self.ids)?);
        match all.strip_prefix(&before) {
            Some(text) => Ok(text.to_owned()),
            // Byte fallback decodes bytes in a row together, and one that is wrong spoils those before it.
            None => decode(&self.ids[self.given..]),
        }
    }
}
