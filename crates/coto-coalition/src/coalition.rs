use std::cmp::Ordering;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

const WORD: usize = u64::BITS as usize;

/// The set of players that are switched on, out of `n` players numbered from 0.
///
/// Its text is one character per player, player 0 first, `1` for on and `0` for off; serde uses the same text. Coalitions are
/// ordered as that text is. With the players numbered from the bottom of a model up, coalitions that agree on their lower
/// players are therefore neighbours in sorted order, and a sorted list can be walked as a trie.
///
/// ```
/// use coto_coalition::Coalition;
///
/// let low: Coalition = "1100".parse()?;
/// assert_eq!((low.len(), low.players()), (2, 4));
/// assert_eq!(low.complement(), Coalition::from_players(4, [2, 3]));
/// # Ok::<(), coto_coalition::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Coalition {
    players: usize,
    words: Words,
}

/// Bit `i % 64` of word `i / 64` is player `i`; bits past the last player stay 0, so that equality and hash are those of the set.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Words {
    /// Up to 64 players, without a memory block of their own: searches copy coalitions by the million.
    One(u64),
    Many(Box<[u64]>),
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Words::One(word) => std::slice::from_ref(word),
            Words::Many(words) => words,
        }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Words::One(word) => std::slice::from_mut(word),
            Words::Many(words) => words,
        }
    }
}

impl Coalition {
    /// Nobody of `n` players: the frozen base model.
    pub fn empty(n: usize) -> Self {
        let words = match n.div_ceil(WORD) {
            0 | 1 => Words::One(0),
            many => Words::Many(vec![0; many].into()),
        };
        Self { players: n, words }
    }

    /// All of `n` players: the whole adapted model.
    pub fn grand(n: usize) -> Self {
        Self::empty(n).complement()
    }

    /// The listed ones of `n` players; naming a player twice is naming it once.
    ///
    /// # Panics
    /// If a player is not below `n`.
    pub fn from_players(n: usize, on: impl IntoIterator<Item = usize>) -> Self {
        let mut coalition = Self::empty(n);
        on.into_iter().for_each(|player| coalition.insert(player));
        coalition
    }

    /// The first 64 of `n` players as the bits of a number, player 0 the lowest bit; later players are off.
    ///
    /// # Panics
    /// If a bit at or above `n` is set.
    pub fn from_bits(n: usize, bits: u64) -> Self {
        let used = WORD - bits.leading_zeros() as usize;
        assert!(
            used <= n,
            "bits {bits:#b} name player {} of {n} players",
            used.saturating_sub(1)
        );
        let mut coalition = Self::empty(n);
        coalition.words[0] = bits;
        coalition
    }

    /// How many players there are, on or off.
    pub fn players(&self) -> usize {
        self.players
    }

    /// How many players are switched on.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether nobody is switched on.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Whether everybody is switched on.
    pub fn is_grand(&self) -> bool {
        self.len() == self.players
    }

    /// Whether a player is switched on.
    ///
    /// # Panics
    /// If `player` is out of range.
    pub fn contains(&self, player: usize) -> bool {
        let (word, bit) = self.place(player);
        self.words[word] & bit != 0
    }

    /// Switches a player on.
    ///
    /// # Panics
    /// If `player` is out of range.
    pub fn insert(&mut self, player: usize) {
        let (word, bit) = self.place(player);
        self.words[word] |= bit;
    }

    /// Switches a player off.
    ///
    /// # Panics
    /// If `player` is out of range.
    pub fn remove(&mut self, player: usize) {
        let (word, bit) = self.place(player);
        self.words[word] &= !bit;
    }

    /// S ∪ {player}.
    ///
    /// # Panics
    /// If `player` is out of range.
    #[must_use]
    pub fn with(&self, player: usize) -> Self {
        let mut coalition = self.clone();
        coalition.insert(player);
        coalition
    }

    /// S \ {player}.
    ///
    /// # Panics
    /// If `player` is out of range.
    #[must_use]
    pub fn without(&self, player: usize) -> Self {
        let mut coalition = self.clone();
        coalition.remove(player);
        coalition
    }

    /// Exactly the players that are off.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut other = self.clone();
        other.words.iter_mut().for_each(|word| *word = !*word);
        let unused = other.words.len() * WORD - self.players;
        if let Some(last) = other.words.last_mut() {
            *last &= u64::MAX.checked_shr(unused as u32).unwrap_or(0);
        }
        other
    }

    /// The players that are switched on, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, &word)| {
            let rest = std::iter::successors(Some(word), |&rest| Some(rest & rest.wrapping_sub(1)));
            rest.take_while(|&rest| rest != 0)
                .map(move |rest| place * WORD + rest.trailing_zeros() as usize)
        })
    }

    #[track_caller]
    fn place(&self, player: usize) -> (usize, u64) {
        assert!(
            player < self.players,
            "player {player} out of range for a coalition of {} players",
            self.players
        );
        (player / WORD, 1 << (player % WORD))
    }
}

impl Ord for Coalition {
    fn cmp(&self, other: &Self) -> Ordering {
        // Reversed, the lowest player is the most significant bit, and numbers compare as the texts do.
        let [own, others] =
            [self, other].map(|coalition| coalition.words.iter().map(|word| word.reverse_bits()));
        own.cmp(others).then(self.players.cmp(&other.players))
    }
}

impl PartialOrd for Coalition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Coalition {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let text: String = (0..self.players)
            .map(|player| if self.contains(player) { '1' } else { '0' })
            .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for Coalition {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Coalition({self})")
    }
}

impl FromStr for Coalition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut coalition = Self::empty(text.chars().count());
        for (position, found) in text.chars().enumerate() {
            match found {
                '0' => {}
                '1' => coalition.insert(position),
                _ => {
                    return Err(Error::NotABit {
                        text: text.into(),
                        found,
                        position,
                    });
                }
            }
        }
        Ok(coalition)
    }
}

impl Serialize for Coalition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Coalition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits() -> impl Strategy<Value = Vec<bool>> {
        prop::collection::vec(any::<bool>(), 0..200)
    }

    fn coalition(bits: &[bool]) -> Coalition {
        Coalition::from_players(bits.len(), (0..bits.len()).filter(|&i| bits[i]))
    }

    proptest! {
        #[test]
        fn a_coalition_is_the_set_it_was_made_from(bits in bits()) {
            let set = coalition(&bits);
            let on: Vec<usize> = (0..bits.len()).filter(|&i| bits[i]).collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), on.clone());
            prop_assert_eq!(set.len(), on.len());
            prop_assert_eq!(set.players(), bits.len());
            prop_assert_eq!(set.is_empty(), on.is_empty());
            prop_assert_eq!(set.is_grand(), on.len() == bits.len());
            prop_assert!((0..bits.len()).all(|i| set.contains(i) == bits[i]));
        }

        #[test]
        fn text_and_json_give_the_coalition_back(bits in bits()) {
            let set = coalition(&bits);
            prop_assert_eq!(set.to_string().parse::<Coalition>().unwrap(), set.clone());
            let json = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(&json, &format!("\"{set}\""));
            prop_assert_eq!(serde_json::from_str::<Coalition>(&json).unwrap(), set);
        }

        #[test]
        fn the_order_is_that_of_the_texts(a in bits(), b in bits()) {
            let (a, b) = (coalition(&a), coalition(&b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn a_prefix_comes_before_what_it_begins(bits in bits(), cut in 0usize..200) {
            let short = coalition(&bits[..cut.min(bits.len())]);
            let whole = coalition(&bits);
            prop_assert_eq!(short.cmp(&whole), short.to_string().cmp(&whole.to_string()));
        }

        #[test]
        fn the_complement_is_disjoint_covers_and_undoes_itself(bits in bits()) {
            let set = coalition(&bits);
            let other = set.complement();
            prop_assert!((0..bits.len()).all(|i| set.contains(i) != other.contains(i)));
            prop_assert_eq!(set.len() + other.len(), bits.len());
            prop_assert_eq!(other.complement(), set);
        }

        #[test]
        fn with_and_without_change_one_player(bits in bits(), at in any::<prop::sample::Index>()) {
            prop_assume!(!bits.is_empty());
            let (set, i) = (coalition(&bits), at.index(bits.len()));
            let (mut on, mut off) = (bits.clone(), bits.clone());
            (on[i], off[i]) = (true, false);
            prop_assert_eq!(set.with(i), coalition(&on));
            prop_assert_eq!(set.without(i), coalition(&off));
        }

        #[test]
        fn bits_of_a_number_are_players_from_the_lowest(bits in any::<u64>(), n in 64usize..140) {
            let set = Coalition::from_bits(n, bits);
            prop_assert!((0..n).all(|i| set.contains(i) == (i < 64 && bits >> i & 1 == 1)));
        }
    }

    #[test]
    fn grand_and_empty_hold_at_word_borders() {
        for n in [0, 1, 63, 64, 65, 127, 128, 129] {
            assert_eq!(Coalition::grand(n).len(), n);
            assert!(Coalition::grand(n).is_grand());
            assert!(Coalition::empty(n).is_empty());
            assert_eq!(Coalition::grand(n), Coalition::from_players(n, 0..n));
        }
    }

    #[test]
    fn sorted_coalitions_share_their_lower_players_with_neighbours() {
        let mut all: Vec<Coalition> = (0..8).map(|bits| Coalition::from_bits(3, bits)).collect();
        all.sort();
        let texts: Vec<String> = all.iter().map(Coalition::to_string).collect();
        assert_eq!(
            texts,
            ["000", "001", "010", "011", "100", "101", "110", "111"]
        );
    }

    #[test]
    fn a_foreign_character_is_named_with_its_place() {
        let error = "01x0".parse::<Coalition>().unwrap_err();
        assert_eq!(
            error,
            Error::NotABit {
                text: "01x0".into(),
                found: 'x',
                position: 2
            }
        );
    }

    #[test]
    #[should_panic(expected = "player 3 out of range for a coalition of 3 players")]
    fn a_player_past_the_last_panics() {
        Coalition::empty(3).contains(3);
    }

    #[test]
    #[should_panic(expected = "name player 3 of 3 players")]
    fn a_bit_past_the_last_player_panics() {
        Coalition::from_bits(3, 0b1000);
    }
}
