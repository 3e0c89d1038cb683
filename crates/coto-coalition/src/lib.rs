//! Coalitions of adapters: which players are switched on, which modules a player owns, and the seeded random streams that draw them.
