//! The coto command.
fn main() {}
