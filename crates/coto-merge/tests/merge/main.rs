//! Merging, and folding into a base.

mod fold;
mod methods;
mod rules;
