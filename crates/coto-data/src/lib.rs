//! Labelled text for fine-tuning: JSONL, CSV and Parquet tables, few-shot samples, tokens and length-bucketed batches.
