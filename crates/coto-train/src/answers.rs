//! How well a decoder answers: choices by their likelihood, and answers by what it says.

use burn::tensor::{Tensor, TensorData};
use coto_adapters::Pass;
use coto_data::{LanguageTokenizer, MultipleChoice, Question};
use coto_models::{Layered, Llama, Sampling, TokenBatch};
use regex::Regex;
use serde::Serialize;

use crate::Error;

/// The shares of questions whose right choice is the likeliest, as lm-evaluation-harness has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoiceScores {
    /// By the sum of the tokens' log-likelihoods (`acc`).
    pub accuracy: f64,
    /// By that sum over the choice's length in characters (`acc_norm`).
    pub accuracy_normalised: f64,
    /// The number of questions.
    pub questions: usize,
    /// The log-likelihood of each choice of each question, in nats.
    pub likelihoods: Vec<Vec<f64>>,
}

/// Scores choices, each put behind its context with `delimiter` between the two.
///
/// The tokens of a choice are those of the whole text beyond the context's own, blanks at the context's end counting to the
/// choice, as lm-evaluation-harness tells them. Of equals the first is taken.
///
/// # Errors
/// If the tokenizer refuses a text, or [`Error::Vocabulary`]; [`Error::TooLong`] for more tokens than the model has positions.
pub fn multiple_choice(
    decoder: &Llama,
    tokenizer: &LanguageTokenizer,
    pass: &Pass,
    questions: &[MultipleChoice],
    delimiter: &str,
) -> Result<ChoiceScores, Error> {
    let (mut plain, mut normalised) = (0, 0);
    let mut likelihoods = Vec::with_capacity(questions.len());
    for question in questions {
        let pairs = question.choices.iter().map(|choice| {
            let context = question.context.trim_end();
            let blanks = &question.context[context.len()..];
            let whole = format!("{context}{blanks}{delimiter}{choice}");
            let before = tokenizer.encode(context, true)?;
            let mut ids = tokenizer.encode(&whole, true)?;
            // An end of sequence that the tokenizer puts behind every text is no part of the choice.
            if ids
                .last()
                .is_some_and(|id| tokenizer.eos_ids().contains(id))
            {
                ids.pop();
            }
            checked(decoder, &ids)?;
            let ended = before
                .last()
                .is_some_and(|id| tokenizer.eos_ids().contains(id));
            Ok((before.len() - usize::from(ended && before.len() > 1), ids))
        });
        let pairs = pairs.collect::<Result<Vec<_>, Error>>()?;
        let sums = log_likelihoods(decoder, pass, &pairs);
        let per_character = sums.iter().zip(&question.choices);
        let per_character: Vec<f64> = per_character
            .map(|(sum, choice)| sum / choice.chars().count().max(1) as f64)
            .collect();
        plain += usize::from(likeliest(&sums) == question.answer);
        normalised += usize::from(likeliest(&per_character) == question.answer);
        likelihoods.push(sums);
    }
    let share = |right: usize| right as f64 / questions.len().max(1) as f64;
    Ok(ChoiceScores {
        accuracy: share(plain),
        accuracy_normalised: share(normalised),
        questions: questions.len(),
        likelihoods,
    })
}

fn likeliest(values: &[f64]) -> usize {
    let order = (0..values.len()).rev();
    order
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .unwrap_or(0)
}

fn checked(decoder: &Llama, ids: &[u32]) -> Result<(), Error> {
    let config = decoder.config();
    let vocabulary = config.vocab_size;
    if let Some(&token) = ids.iter().find(|&&id| id as usize >= vocabulary) {
        return Err(Error::Vocabulary { token, vocabulary });
    }
    let positions = config.max_position_embeddings;
    if ids.len() > positions {
        return Err(Error::TooLong {
            tokens: ids.len(),
            positions,
        });
    }
    Ok(())
}

/// For each sequence the log-likelihood of its tokens from a place on, given those before.
fn log_likelihoods(decoder: &Llama, pass: &Pass, sequences: &[(usize, Vec<u32>)]) -> Vec<f64> {
    let device = decoder.vocabulary().device();
    let rows: Vec<Vec<&[u32]>> = sequences.iter().map(|(_, ids)| vec![&ids[..]]).collect();
    let batch = TokenBatch::packed(&rows, &device);
    let [_, width] = batch.ids.dims();
    let (mut places, mut targets, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (row, (from, ids)) in sequences.iter().enumerate() {
        let told = ids.iter().enumerate().skip((*from).max(1));
        for (at, &token) in told {
            places.push((row * width + at - 1) as i32);
            targets.push(token);
            rows.push(row);
        }
    }
    let mut hidden = decoder.states(&batch, pass);
    let places = TensorData::new(places, [targets.len()]);
    hidden.states = hidden.states.select(0, Tensor::from_data(places, &device));
    let losses = coto_kernels::token_losses(decoder.normed(hidden), decoder.vocabulary(), &targets);
    let mut sums = vec![0.0; sequences.len()];
    for (row, (loss, _)) in rows.into_iter().zip(losses) {
        sums[row] -= f64::from(loss);
    }
    sums
}

/// How many answers are exactly those that were wanted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MatchScores {
    /// The share of right answers.
    pub exact_match: f64,
    /// The number of questions.
    pub questions: usize,
    /// What was said, question by question.
    pub said: Vec<String>,
}

/// Lets the decoder answer, greedily, and compares what it says with what was wanted, blanks around both left out.
///
/// With a pattern, its first group (or, without groups, its match) where it first matches stands for what was said, and
/// likewise for what was wanted where it matches there; where it does not match what was said, the answer is wrong.
///
/// # Errors
/// If the tokenizer refuses a text, or [`Error::Vocabulary`]; [`Error::TooLong`].
pub fn exact_match(
    decoder: &Llama,
    tokenizer: &LanguageTokenizer,
    pass: &Pass,
    questions: &[Question],
    pattern: Option<&Regex>,
    limit: usize,
) -> Result<MatchScores, Error> {
    let (mut right, mut said) = (0, Vec::with_capacity(questions.len()));
    for question in questions {
        let prompt = question.prompt.encode(tokenizer)?;
        checked(decoder, &prompt)?;
        let ends = tokenizer.eos_ids();
        let greedy = Sampling::GREEDY;
        let ids = decoder.generate(&prompt, ends, limit, &greedy, pass, &mut |_| true);
        let text = tokenizer.decode(&ids, true)?;
        let (found, wanted) = match pattern {
            None => (Some(text.as_str()), question.answer.as_str()),
            Some(pattern) => (
                extract(pattern, &text),
                extract(pattern, &question.answer).unwrap_or(&question.answer),
            ),
        };
        right += usize::from(found.is_some_and(|found| found.trim() == wanted.trim()));
        said.push(text);
    }
    Ok(MatchScores {
        exact_match: f64::from(right as u32) / questions.len().max(1) as f64,
        questions: questions.len(),
        said,
    })
}

fn extract<'a>(pattern: &Regex, text: &'a str) -> Option<&'a str> {
    let found = pattern.captures(text)?;
    let part = found.get(1).or_else(|| found.get(0))?;
    Some(part.as_str())
}
