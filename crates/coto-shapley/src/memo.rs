use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use coto_coalition::Coalition;

use crate::plan::Places;
use crate::{Error, Game};

/// The most coalitions handed to a game at once.
const BATCH: usize = 1024;

/// A game that remembers: no coalition is evaluated twice, not even by another estimator, and with a file not even by another run.
///
/// What an estimator draws is a function of its seed alone. To go on after a kill, or with a larger budget, is therefore to run
/// again over a memo that knows what was evaluated.
#[derive(Debug)]
pub struct Memo<G> {
    game: G,
    players: usize,
    batch: usize,
    places: Places,
    values: Vec<f64>,
    file: Option<(PathBuf, File)>,
}

/// A line of a memo's file: a coalition and its value.
type Line = (Coalition, f64);

impl<G: Game> Memo<G> {
    /// Remembers nothing yet of `game`.
    ///
    /// # Errors
    /// [`Error::NoPlayers`].
    pub fn new(game: G) -> Result<Self, Error<G::Error>> {
        let players = game.players();
        if players == 0 {
            return Err(Error::NoPlayers);
        }
        Ok(Self {
            game,
            players,
            batch: BATCH,
            places: Places::default(),
            values: Vec::new(),
            file: None,
        })
    }

    /// Remembers what the file at `path` holds, if there is one, and adds to it what is evaluated from now on, batch by batch.
    ///
    /// Each line is a coalition with its value, as `["0110",0.25]`. A last line that was cut off by a kill is dropped.
    ///
    /// # Errors
    /// A file that cannot be read or written, a line that is none of this game's.
    pub fn open(game: G, path: impl AsRef<Path>) -> Result<Self, Error<G::Error>> {
        let path = path.as_ref().to_path_buf();
        let failed = |source: io::Error| Error::File {
            path: path.clone(),
            reason: source.to_string(),
        };
        let mut memo = Self::new(game)?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (number, line) in text[..whole].lines().enumerate() {
            let wrong = |reason: String| Error::File {
                path: path.clone(),
                reason: format!("line {}: {reason}", number + 1),
            };
            let (coalition, value): Line =
                serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            if coalition.players() != memo.players {
                let found = coalition.players();
                return Err(wrong(format!(
                    "{found} players, but the game has {}",
                    memo.players
                )));
            }
            let next = memo.values.len();
            match *memo.places.entry(coalition).or_insert(next) {
                place if place == next => memo.values.push(value),
                place => memo.values[place] = value,
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        memo.file = Some((path, file));
        Ok(memo)
    }

    /// Hands the game at most `batch` coalitions at once, 1,024 if never told otherwise. A kill loses no more than a batch.
    ///
    /// # Panics
    /// If `batch` is 0.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        assert!(batch > 0, "a batch must hold at least one coalition");
        self.batch = batch;
        self
    }

    /// The number of players.
    pub fn players(&self) -> usize {
        self.players
    }

    /// How many coalitions' values are known.
    pub fn known(&self) -> usize {
        self.values.len()
    }

    /// The values of `coalitions`, in their order; only those not yet known are evaluated, each once.
    ///
    /// # Errors
    /// A failing game, a wrong number of values, a value that is not finite, a file that cannot be written.
    pub fn values(&mut self, coalitions: &[Coalition]) -> Result<Vec<f64>, Error<G::Error>> {
        let least = coalitions.len().saturating_sub(self.known());
        self.places.reserve(least);
        let mut unknown = Vec::with_capacity(least);
        let mut place = |coalition: &Coalition| {
            let next = self.places.len();
            let fresh = || {
                unknown.push(coalition.clone());
                next
            };
            *self.places.entry(coalition.clone()).or_insert_with(fresh)
        };
        let places: Vec<usize> = coalitions.iter().map(&mut place).collect();
        let evaluated = self.evaluate(&unknown);
        if evaluated.is_err() {
            let known = self.known();
            self.places.retain(|_, place| *place < known);
        }
        evaluated?;
        Ok(places.into_iter().map(|place| self.values[place]).collect())
    }

    /// Adds the values of further coalitions, batch by batch, to those that are known.
    fn evaluate(&mut self, coalitions: &[Coalition]) -> Result<(), Error<G::Error>> {
        for batch in coalitions.chunks(self.batch) {
            let values = self.game.values(batch).map_err(Error::Game)?;
            if values.len() != batch.len() {
                return Err(Error::WrongCount {
                    asked: batch.len(),
                    found: values.len(),
                });
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::NotFinite {
                    coalition: batch[at].clone(),
                    value: values[at],
                });
            }
            self.write(batch, &values)?;
            self.values.extend(values);
        }
        Ok(())
    }

    fn write(&mut self, batch: &[Coalition], values: &[f64]) -> Result<(), Error<G::Error>> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        let lines: String = batch
            .iter()
            .zip(values)
            .map(|(set, value)| format!("[\"{set}\",{value:?}]\n"))
            .collect();
        let written = file.write_all(lines.as_bytes()).and_then(|()| file.flush());
        written.map_err(|error| Error::File {
            path: path.clone(),
            reason: error.to_string(),
        })
    }
}
