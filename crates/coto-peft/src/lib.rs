//! PEFT adapter folders: configuration, targeting and tensors, read strictly and written exactly.
