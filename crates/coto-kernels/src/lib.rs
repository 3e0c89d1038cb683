//! Fused tensor operations of the layered models: plain burn primitives by default, fast paths per backend.
