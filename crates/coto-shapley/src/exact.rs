use coto_coalition::Coalition;

use crate::{Error, Estimate, Game, Memo};

/// The most players that a table of all 2ⁿ values is made for.
pub const MOST_PLAYERS: usize = 24;

/// The values of all 2ⁿ coalitions: place `bits` holds the coalition whose player i is bit i.
pub(crate) fn table<G: Game>(memo: &mut Memo<G>) -> Result<Vec<f64>, Error<G::Error>> {
    let n = memo.players();
    if n > MOST_PLAYERS {
        return Err(Error::TooManyPlayers {
            players: n,
            most: MOST_PLAYERS,
        });
    }
    // In the order of their texts, a batch of neighbours agrees on its lower players, which games may exploit.
    let coalitions: Vec<Coalition> = (0..1_u64 << n)
        .map(|place| Coalition::from_bits(n, place.reverse_bits() >> (64 - n)))
        .collect();
    let values = memo.values(&coalitions)?;
    let mut table = vec![0.0; values.len()];
    for (place, value) in values.into_iter().enumerate() {
        table[((place as u64).reverse_bits() >> (64 - n)) as usize] = value;
    }
    Ok(table)
}

/// The Shapley values of a game of at most [`MOST_PLAYERS`] players, from all of its 2ⁿ coalitions (Shapley, 1953).
///
/// # Errors
/// A game without players or with too many, a failing game, a value that is not finite.
pub fn exact<G: Game>(game: &mut G) -> Result<Estimate, Error<G::Error>> {
    exact_over(&mut Memo::new(game)?)
}

/// [`exact`], over what is already known of the game.
pub(crate) fn exact_over<G: Game>(memo: &mut Memo<G>) -> Result<Estimate, Error<G::Error>> {
    let table = table(memo)?;
    let values = shapley(&table);
    let residual = table[table.len() - 1] - table[0] - values.iter().sum::<f64>();
    Ok(Estimate::exactly("exact", table.len(), residual, values))
}

/// φᵢ = Σ_{S∌i} |S|!(n−|S|−1)!/n! · (v(S∪i) − v(S)) of a table of 2ⁿ values, in O(n·2ⁿ).
pub(crate) fn shapley(table: &[f64]) -> Vec<f64> {
    let n = table.len().trailing_zeros() as usize;
    // 1 / (n·C(n−1, s)) by the size s of the coalition that the player joins.
    let mut weights = vec![1.0 / n as f64; n];
    for s in 1..n {
        weights[s] = weights[s - 1] * s as f64 / (n - s) as f64;
    }
    let marginal = |bit: usize| {
        let without = (0..table.len()).filter(move |bits| bits & bit == 0);
        without
            .map(|bits| weights[bits.count_ones() as usize] * (table[bits | bit] - table[bits]))
            .sum()
    };
    (0..n).map(|player| marginal(1 << player)).collect()
}
