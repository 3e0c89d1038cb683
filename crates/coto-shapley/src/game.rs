use std::convert::Infallible;
use std::fmt;

use coto_coalition::Coalition;

/// A cooperative game: evaluates batches of coalitions.
///
/// Its values must not change from call to call: a coalition is evaluated once and remembered.
pub trait Game {
    /// What can go wrong while a coalition is evaluated.
    type Error;

    /// The number of players n.
    fn players(&self) -> usize;

    /// v of each coalition, in their order.
    ///
    /// # Errors
    /// Whatever keeps the game from giving a value.
    fn values(&mut self, coalitions: &[Coalition]) -> Result<Vec<f64>, Self::Error>;
}

impl<G: Game + ?Sized> Game for &mut G {
    type Error = G::Error;

    fn players(&self) -> usize {
        (**self).players()
    }

    fn values(&mut self, coalitions: &[Coalition]) -> Result<Vec<f64>, Self::Error> {
        (**self).values(coalitions)
    }
}

/// A game that is a function of one coalition, and that cannot fail.
///
/// ```
/// use coto_shapley::{FnGame, exact};
///
/// // Two of three gloves make a pair if player 0, who owns the only left one, is among them.
/// let mut gloves = FnGame::new(3, |s| f64::from(s.contains(0) && s.len() > 1));
/// let shapley = exact(&mut gloves)?;
/// assert!((shapley.values[0] - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), coto_shapley::Error<std::convert::Infallible>>(())
/// ```
#[derive(Clone)]
pub struct FnGame<F> {
    players: usize,
    value: F,
}

impl<F> fmt::Debug for FnGame<F> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "FnGame of {} players", self.players)
    }
}

impl<F: FnMut(&Coalition) -> f64> FnGame<F> {
    /// The game of `players` players in which a coalition is worth `value` of it.
    pub fn new(players: usize, value: F) -> Self {
        Self { players, value }
    }
}

impl<F: FnMut(&Coalition) -> f64> Game for FnGame<F> {
    type Error = Infallible;

    fn players(&self) -> usize {
        self.players
    }

    fn values(&mut self, coalitions: &[Coalition]) -> Result<Vec<f64>, Infallible> {
        Ok(coalitions.iter().map(&mut self.value).collect())
    }
}
