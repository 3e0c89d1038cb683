//! Folders are pruned and read back.

mod goldens;
mod make;
mod ranks;
mod sparse;
mod structured;
