use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, State, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{Message, python};
use crate::error::{Error, shorten};

/// What a rendering may cost, in about as many instructions, or 64 times as many bytes. Each can nest a value once more, and
/// the engine drops and compares nested values by recursion, so this has to fit the stack of any thread.
const FUEL: u64 = 3_000;
/// What it may cost at a second try, for long conversations, on a stack of its own.
const MORE_FUEL: u64 = 400_000;
/// Of that stack, in bytes: twice what a level was seen to take. What is not used is no memory.
const STACK: usize = 640 * MORE_FUEL as usize;
const NAME: &str = "chat template";

/// A chat template: the Jinja text by which a model writes a conversation, rendered as `transformers` does.
///
/// Blocks are trimmed (`trim_blocks`, `lstrip_blocks`); `raise_exception`, `strftime_now` (in UTC), `tojson`, the methods of
/// Python's texts, lists and dicts, and the special tokens (`bos_token`, `eos_token`, …) are there; `tools` and
/// `documents` are none. A rendering that does not end is stopped.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    name: String,
    environment: Arc<Environment<'static>>,
    /// The special tokens, for the template.
    special: Value,
    source: String,
}

impl ChatTemplate {
    /// Compiles a template; `name` is for messages, and `special` has the special tokens by the names the template uses.
    ///
    /// # Errors
    /// If its syntax is wrong, with the line.
    pub fn new(
        name: &str,
        source: impl Into<String>,
        special: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let source = source.into();
        let mut environment = environment();
        environment
            .add_template_owned(NAME, without_generation_tags(&source))
            .map_err(|fault| failed(name, &fault))?;
        set_clock(&mut environment, None);
        Ok(Self {
            name: name.to_owned(),
            environment: Arc::new(environment),
            special: Value::from_pairs(special),
            source,
        })
    }

    /// Lets `strftime_now` tell this time for ever, so that a template that writes the date writes the same one in every run.
    #[must_use]
    pub fn at(mut self, time: SystemTime) -> Self {
        set_clock(Arc::make_mut(&mut self.environment), Some(time));
        self
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// # Errors
    /// What the template raises, and whatever goes wrong in it, with the line.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        match self.attempt(&self.environment, messages, add_generation_prompt) {
            Err(fault) if fault.kind() == ErrorKind::OutOfFuel => {
                self.render_long(messages, add_generation_prompt)
            }
            rendered => rendered.map_err(|fault| failed(&self.name, &fault)),
        }
    }

    fn render_long(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let mut environment = Environment::clone(&self.environment);
        environment.set_fuel(Some(MORE_FUEL));
        let render = || {
            self.attempt(&environment, messages, add_generation_prompt)
                .map_err(|fault| failed(&self.name, &fault))
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK);
            match thread.spawn_scoped(scope, render) {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(reason) => Err(Error::ChatTemplate {
                    name: self.name.clone(),
                    line: None,
                    reason: format!("no thread to render a long conversation: {reason}"),
                }),
            }
        })
    }

    fn attempt(
        &self,
        environment: &Environment,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, minijinja::Error> {
        let turn = |message: &Message| {
            let Message { role, content } = message;
            Value::from_pairs([("role", role.as_str()), ("content", content.as_str())])
        };
        let context = context! {
            messages => messages.iter().map(turn).collect::<Vec<_>>(),
            tools => (),
            documents => (),
            add_generation_prompt => add_generation_prompt,
            ..self.special.clone()
        };
        environment.get_template(NAME)?.render(context)
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().expect("the usual delimiters"));
    environment.set_fuel(Some(FUEL));
    // Debug information would quote the template and the conversation in each error.
    environment.set_debug(false);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool if value.is_true() => Ok(out.write_str("True")?),
        ValueKind::Bool => Ok(out.write_str("False")?),
        ValueKind::None => Ok(out.write_str("None")?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_function("raise_exception", |message: String| {
        Err::<(), _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", tojson);
    environment
}

fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let style = python::JsonStyle {
        ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
        indent: match options.get::<Option<Value>>("indent")? {
            None => None,
            Some(indent) if indent.is_none() => None,
            Some(indent) => Some(match indent.as_str() {
                Some(text) => text.to_owned(),
                None => " ".repeat(usize::try_from(indent)?.min(64)),
            }),
        },
        separators: match options.get::<Option<Vec<String>>>("separators")? {
            None => None,
            Some(pair) => Some(<[String; 2]>::try_from(pair).map_err(|_| {
                let message = "tojson: separators are two texts";
                minijinja::Error::new(ErrorKind::InvalidOperation, message)
            })?),
        },
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let json = python::json(value, style)
        .map_err(|reason| minijinja::Error::new(ErrorKind::BadSerialization, reason.to_string()))?;
    state.consume_fuel(json.len() as u64 / 64)?;
    Ok(json)
}

fn set_clock(environment: &mut Environment, time: Option<SystemTime>) {
    environment.add_function("strftime_now", move |format: String| {
        let time = time.unwrap_or_else(SystemTime::now);
        let seconds = time
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        python::strftime(seconds, &format).ok_or_else(|| {
            let message = format!("strftime_now: unknown format `{}`", shorten(&format));
            minijinja::Error::new(ErrorKind::InvalidOperation, message)
        })
    });
}

/// `transformers` has a block `{% generation %}` around what the assistant says, which leaves no trace in the text: here it
/// is a condition that holds.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end);
        let word = tag.trim_start_matches(['{', '%', '-', '+']);
        let word = word.trim_end_matches(['-', '+']).trim();
        result.push_str(before);
        match word {
            "generation" => result.push_str(&tag.replace(word, "if true")),
            "endgeneration" => result.push_str(&tag.replace(word, "endif")),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result + rest
}

fn failed(name: &str, fault: &minijinja::Error) -> Error {
    let reason = match (fault.kind(), fault.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too long".to_owned(),
        (ErrorKind::InvalidOperation, Some(detail)) => shorten(detail),
        (kind, Some(detail)) => shorten(&format!("{kind}: {detail}")),
        (kind, None) => kind.to_string(),
    };
    Error::ChatTemplate {
        name: name.to_owned(),
        line: fault.line(),
        reason,
    }
}
