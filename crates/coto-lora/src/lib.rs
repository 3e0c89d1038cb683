//! CoTo for Rust: one name for all its crates.
//!
//! | module | holds |
//! |---|---|
//! | [`coalition`] | who is switched on: coalitions, players, random streams |
//! | [`schedule`] | when: the activation curves of CoTo, CopRA and stochastic depth |
//! | [`adapters`] | LoRA, rsLoRA, DoRA, HiRA on the activation path |
//! | [`models`] | frozen layered models |
//! | [`data`] | labelled text |
//! | [`image`] | labelled images |
//! | [`train`] | run files, the loop, checkpoints |
//! | [`lowrank`] | the algebra of ΔW = B A |
//! | [`merge`] | merging adapters, folding them into a base |
//! | [`prune`] | fewer modules, entries and ranks |
//! | [`shapley`] | Shapley values of any cooperative game |
//! | [`analysis`] | the adapter game, stability, connectivity, similarity, Theorem 3.1, merged and pruned adapters judged |
//! | [`peft`] | the exchange format of Python's PEFT |
//! | [`report`] | pictures of results |
//! | [`gguf`] | GGUF model files |
//! | [`kernels`] | fused operations |

pub use coto_adapters as adapters;
pub use coto_analysis as analysis;
pub use coto_coalition as coalition;
pub use coto_data as data;
pub use coto_gguf as gguf;
pub use coto_image as image;
pub use coto_kernels as kernels;
pub use coto_lowrank as lowrank;
pub use coto_merge as merge;
pub use coto_models as models;
pub use coto_peft as peft;
pub use coto_prune as prune;
pub use coto_report as report;
pub use coto_schedule as schedule;
pub use coto_shapley as shapley;
pub use coto_train as train;
