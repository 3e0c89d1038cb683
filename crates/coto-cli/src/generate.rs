//! `coto generate`: a decoder speaks, once or in a conversation.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use coto_adapters::{AdapterSet, Pass};
use coto_coalition::{Coalition, Grouping};
use coto_data::{LanguageTokenizer, Message};
use coto_models::{Llama, Model, Sampling, locate};
use coto_peft::Folder;

use crate::args::GenerateArgs;

pub fn run(args: &GenerateArgs) -> Result<()> {
    let device = coto_models::parse_device(&args.device)?;
    let model = Model::load_as(&args.model, args.base_quant, &device)?;
    let Model::Llama(decoder) = &model else {
        bail!(
            "{} is {}, and only decoders generate",
            args.model,
            model.family()
        )
    };
    let tokenizer = LanguageTokenizer::load(locate(args.model.as_ref())?)?;
    let adapters = args.adapters.iter().map(|text| Named::load(text, decoder));
    let adapters = adapters.collect::<Result<Vec<_>>>()?;
    let mut talk = Talk {
        decoder,
        tokenizer: &tokenizer,
        active: adapters.len().checked_sub(1),
        adapters,
        coalition: args.coalition.as_deref().map(str::parse).transpose()?,
        sampling: Sampling {
            temperature: args.temperature,
            top_p: args.top_p,
            seed: args.seed,
        },
        limit: args.max_tokens,
        chat: !args.raw && tokenizer.template().is_some(),
        system: args.system.clone(),
        history: Vec::new(),
    };
    talk.reset();
    match &args.prompt {
        Some(prompt) => talk.say(prompt),
        None => talk.converse(),
    }
}

/// An adapter and what it is called.
struct Named {
    name: String,
    set: AdapterSet,
}

impl Named {
    /// Of `name=folder`, or of a folder, which is called as it is.
    fn load(text: &str, decoder: &Llama) -> Result<Self> {
        let (name, folder) = match text.split_once('=') {
            Some((name, folder)) => (name.to_owned(), folder),
            None => {
                let name = Path::new(text).file_name().unwrap_or_default();
                (name.to_string_lossy().into_owned(), text)
            }
        };
        let read = || -> Result<AdapterSet> {
            let folder = Folder::load(folder)?;
            Ok(AdapterSet::from_folder(decoder, &folder, &Grouping::Layer)?)
        };
        let set = read().with_context(|| format!("adapter {folder}"))?;
        Ok(Self { name, set })
    }
}

const HELP: &str = "/adapter NAME  switch to an adapter, or to `base`\n/adapters      list them\n\
                    /reset         forget the conversation\n/quit          end";

struct Talk<'a> {
    decoder: &'a Llama,
    tokenizer: &'a LanguageTokenizer,
    adapters: Vec<Named>,
    active: Option<usize>,
    coalition: Option<Coalition>,
    sampling: Sampling,
    limit: usize,
    chat: bool,
    system: Option<String>,
    history: Vec<Message>,
}

impl Talk<'_> {
    fn reset(&mut self) {
        let system = self.system.iter().map(|text| Message::new("system", text));
        self.history = system.collect();
    }

    /// Lines from standard input, until it ends.
    fn converse(&mut self) -> Result<()> {
        let terminal = std::io::stdin().is_terminal();
        if terminal {
            eprintln!("{HELP}");
        }
        let mut lines = std::io::stdin().lock().lines();
        loop {
            if terminal {
                eprint!("{}> ", self.name());
            }
            let Some(line) = lines.next().transpose()? else {
                return Ok(());
            };
            match line.trim() {
                "" => {}
                "/quit" => return Ok(()),
                "/reset" => self.reset(),
                "/help" => eprintln!("{HELP}"),
                "/adapters" => self.list(),
                text => match text.strip_prefix("/adapter ") {
                    Some(name) => self.switch(name.trim()),
                    None => self.say(text)?,
                },
            }
        }
    }

    fn name(&self) -> &str {
        self.active.map_or("base", |i| &self.adapters[i].name)
    }

    fn list(&self) {
        eprintln!("base");
        self.adapters
            .iter()
            .for_each(|adapter| eprintln!("{}", adapter.name));
    }

    fn switch(&mut self, name: &str) {
        match self
            .adapters
            .iter()
            .position(|adapter| adapter.name == name)
        {
            None if name != "base" => {
                eprintln!("no adapter `{name}`; there are:");
                self.list();
            }
            found => self.active = found,
        }
    }

    /// Answers, token by token, on standard output.
    fn say(&mut self, text: &str) -> Result<()> {
        let prompt = if self.chat {
            self.history.push(Message::new("user", text));
            let chat = self.tokenizer.chat(&self.history, true)?;
            self.tokenizer.encode(&chat, false)?
        } else {
            self.tokenizer.encode(text, true)?
        };
        let config = self.decoder.config();
        ensure!(!prompt.is_empty(), "a prompt without a token");
        ensure!(
            prompt.len() < config.max_position_embeddings,
            "the conversation has {} tokens, and the model {} positions",
            prompt.len(),
            config.max_position_embeddings
        );
        if let Some(token) = prompt.iter().find(|&&id| id as usize >= config.vocab_size) {
            bail!(
                "token {token} is beyond the model's vocabulary of {}",
                config.vocab_size
            );
        }
        let set = self.active.map(|i| &self.adapters[i].set);
        let on = match (&self.coalition, set) {
            (Some(on), Some(set)) => {
                let (found, players) = (on.players(), set.players().len());
                ensure!(
                    found == players,
                    "coalition `{on}` has {found} players, the adapter {players}"
                );
                Some(on.clone())
            }
            (_, set) => set.map(AdapterSet::grand),
        };
        let pass = set
            .zip(on.as_ref())
            .map_or(Pass::base(), |(set, on)| Pass::new(set, on));
        let (mut stream, mut out) = (self.tokenizer.stream(true), std::io::stdout());
        let mut failed = Ok(());
        let mut hear = |token| {
            failed = stream
                .push(token)
                .map_err(anyhow::Error::from)
                .and_then(|text| {
                    out.write_all(text.as_bytes())?;
                    Ok(out.flush()?)
                });
            failed.is_ok()
        };
        let ends = self.tokenizer.eos_ids();
        let (limit, sampling) = (self.limit, &self.sampling);
        let ids = self
            .decoder
            .generate(&prompt, ends, limit, sampling, &pass, &mut hear);
        failed?;
        println!("{}", stream.finish()?);
        if self.chat {
            let text = self.tokenizer.decode(&ids, true)?;
            self.history.push(Message::new("assistant", text));
        }
        Ok(())
    }
}
