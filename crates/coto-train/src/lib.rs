//! The training harness: run files, the loop with coalitions, optimiser groups, checkpoints, metrics and evaluation.
