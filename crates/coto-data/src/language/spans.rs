use super::{LanguageTokenizer, Message, Sequence};
use crate::error::{Error, Place};

/// A conversation; learnt is what the assistant says, with the token that ends its turn.
///
/// A turn begins where the prompt for it, the turns before with `add_generation_prompt`, ends; it ends where the turns up to
/// it end. Both are found by rendering them and comparing tokens, so nothing has to be known of the template.
pub(super) fn conversation(
    tokenizer: &LanguageTokenizer,
    messages: &[Message],
    completions_only: bool,
    at: &Place,
) -> Result<Sequence, Error> {
    let whole = tokenizer.chat(messages, false)?;
    let ids = tokenizer.encode(&whole, false)?;
    if !completions_only {
        return Ok(Sequence::all(ids));
    }
    let shared = |turn: usize, text: String| match whole.starts_with(&text) {
        true => Ok(common(&ids, &tokenizer.encode(&text, false)?)),
        false => Err(Error::NotAPrefix {
            at: at.clone(),
            turn: turn + 1,
        }),
    };
    let mut learn = vec![false; ids.len()];
    for (turn, _) in (messages.iter().enumerate()).filter(|(_, turn)| turn.role == "assistant") {
        let start = shared(turn, tokenizer.chat(&messages[..turn], true)?)?;
        let end = match turn + 1 == messages.len() {
            true => ids.len(),
            false => shared(turn, tokenizer.chat(&messages[..=turn], false)?)?,
        };
        let end = end.max(start);
        let end = start + spoken(tokenizer, &ids[start..end])?;
        learn[start..end].fill(true);
    }
    match learn.contains(&true) {
        true => Ok(Sequence::new(ids, learn)),
        false => Err(Error::NoAssistant { at: at.clone() }),
    }
}

/// A text to start from and one to go on with, as one text; learnt is the second, with the token that ends it.
pub(super) fn completion(
    tokenizer: &LanguageTokenizer,
    prompt: &str,
    completion: &str,
    completions_only: bool,
) -> Result<Sequence, Error> {
    let Some(&end) = tokenizer.eos_ids().first() else {
        return Err(Error::NoEnd {
            name: tokenizer.name().to_owned(),
        });
    };
    let mut ids = tokenizer.encode(&format!("{prompt}{completion}"), true)?;
    if ids.last() != Some(&end) {
        ids.push(end);
    }
    if !completions_only {
        return Ok(Sequence::all(ids));
    }
    let start = common(&ids, &tokenizer.encode(prompt, true)?);
    // Whatever the tokens, the end is said by the model.
    let start = start.min(ids.len() - 1);
    let learn = (0..ids.len()).map(|place| place >= start).collect();
    Ok(Sequence::new(ids, learn))
}

/// How many tokens two texts share at their beginnings. A token that reaches over the end of the shorter text is not shared.
fn common(ids: &[u32], beginning: &[u32]) -> usize {
    ids.iter()
        .zip(beginning)
        .take_while(|(a, b)| a == b)
        .count()
}

/// How much of a turn, which may be followed by a line end of the template, reaches to the token that ends it.
fn spoken(tokenizer: &LanguageTokenizer, turn: &[u32]) -> Result<usize, Error> {
    let end = turn.iter().rposition(|&id| tokenizer.is_special(id));
    let Some(end) = end.map(|place| place + 1) else {
        return Ok(turn.len());
    };
    let rest = tokenizer.decode(&turn[end..], false)?;
    Ok(if rest.trim().is_empty() {
        end
    } else {
        turn.len()
    })
}
