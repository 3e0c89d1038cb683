//! CoTo for Rust: one name for all its crates.
