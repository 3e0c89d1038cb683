//! Self-contained HTML reports from result files: one file, inline CSS and SVG, no scripts, nothing loaded from elsewhere.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! let log = r#"{"kind":"step","step":0,"loss":2.1,"lr":0.004,"p":0.1,"active":"10","seconds":0.05,"tokens":812}
//! {"kind":"eval","step":1,"loss":1.9,"accuracy":0.4}"#;
//! std::fs::write(dir.join("metrics.jsonl"), log)?;
//!
//! let page = coto_report::run(dir)?;
//! assert!(std::fs::read_to_string(page)?.contains("40.0 %"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod demo;
mod error;
mod figures;
mod html;
mod read;
mod result;
mod run;
mod svg;
mod verdict;

pub use demo::demo;
pub use error::Error;
pub use result::{gather, has_results, result};
pub use run::run;
