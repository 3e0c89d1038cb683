//! Self-contained HTML reports from result files.
