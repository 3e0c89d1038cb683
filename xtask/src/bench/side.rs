//! One side of the comparison: a process that times what it is asked for.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// A process that reads a question a line and answers each in numbers; see `benches/src/main.rs`.
pub struct Side {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    started: Instant,
}

impl Side {
    /// Starts the process, with two threads.
    pub fn start(command: &mut Command) -> Result<Self> {
        for threads in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(threads, "2");
        }
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let questions = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self {
            child,
            questions,
            answers,
            started,
        })
    }

    /// Milliseconds since its start.
    pub fn age(&self) -> f64 {
        1e3 * self.started.elapsed().as_secs_f64()
    }

    /// The answer to a question; empty where this side has none.
    pub fn ask(&mut self, question: &str) -> Result<Vec<f64>> {
        // A process that has ended says why on standard error, which is ours.
        let ended = || format!("a side of the benchmark ended at `{question}`");
        writeln!(self.questions, "{question}").with_context(ended)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(answer.ends_with('\n'), ended());
        let number = |word: &str| {
            word.parse()
                .with_context(|| format!("`{question}` was answered by `{word}`"))
        };
        answer.split_whitespace().map(number).collect()
    }

    /// [`ask`](Self::ask), of a question with one number for an answer.
    pub fn number(&mut self, question: &str) -> Result<Option<f64>> {
        Ok(self.ask(question)?.first().copied())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
