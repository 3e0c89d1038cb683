//! Layered models with frozen weights: the BERT family, from Hugging Face folders.
