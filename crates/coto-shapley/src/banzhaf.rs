use coto_coalition::{Coalition, stream};
use rand::RngExt;

use crate::plan::{EMPTY, GRAND, Plan};
use crate::{Error, Estimate, Game, Memo, exact};

/// The Banzhaf values (Banzhaf, 1965) from all 2ⁿ coalitions: each player's mean marginal contribution to all coalitions of the
/// others. They need not add up to v(N) − v(∅); what is missing stands in `efficiency_residual`.
///
/// # Errors
/// Those of [`exact`](fn@crate::exact).
pub fn banzhaf_exact<G: Game>(memo: &mut Memo<G>) -> Result<Estimate, Error<G::Error>> {
    let table = exact::table(memo)?;
    let half = (table.len() / 2) as f64;
    let value = |i: usize| {
        let signed =
            |(bits, value): (usize, &f64)| if bits >> i & 1 == 1 { *value } else { -value };
        table.iter().enumerate().map(signed).sum::<f64>() / half
    };
    let values: Vec<f64> = (0..memo.players()).map(value).collect();
    let residual = table[table.len() - 1] - table[0] - values.iter().sum::<f64>();
    Ok(Estimate::exactly("banzhaf", table.len(), residual, values))
}

/// The Banzhaf values from at most `budget` coalitions by maximum sample re-use (Wang and Jia, 2023): the mean value of drawn
/// coalitions with a player less that of those without. Exact if the budget allows all 2ⁿ.
///
/// # Errors
/// A budget below 4n + 2, a failing game.
pub fn banzhaf<G: Game>(
    memo: &mut Memo<G>,
    budget: usize,
    seed: u64,
) -> Result<Estimate, Error<G::Error>> {
    let n = memo.players();
    if n <= exact::MOST_PLAYERS && budget >= 1 << n {
        return banzhaf_exact(memo);
    }
    let least = 4 * n + 2;
    if budget < least {
        return Err(Error::BudgetTooSmall {
            method: "banzhaf".into(),
            players: n,
            least,
            budget,
        });
    }
    let mut plan = Plan::new(n, budget);
    let mut draws = stream(seed, "banzhaf");
    let units = plan.fill(|_| {
        vec![Coalition::from_players(
            n,
            (0..n).filter(|_| draws.random_bool(0.5)),
        )]
    });
    let all = memo.values(&plan.coalitions)?;
    let side = |i: usize, with: bool| {
        let own = units
            .iter()
            .flatten()
            .filter(|&&place| plan.coalitions[place].contains(i) == with);
        let own: Vec<f64> = own.map(|&place| all[place]).collect();
        let count = own.len() as f64;
        let mean = own.iter().sum::<f64>() / count;
        let variance =
            own.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        (mean, variance / count)
    };
    let value = |i: usize| {
        let (with, without) = (side(i, true), side(i, false));
        (with.0 - without.0, (with.1 + without.1).sqrt())
    };
    let (values, errors): (Vec<f64>, Vec<f64>) = (0..n).map(value).unzip();
    let residual = all[GRAND] - all[EMPTY] - values.iter().sum::<f64>();
    let freedom = units.len() as f64 - 2.0;
    Ok(Estimate::with_errors(
        "banzhaf",
        seed,
        plan.coalitions.len(),
        residual,
        values,
        errors,
        freedom,
    ))
}
