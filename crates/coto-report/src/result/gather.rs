use std::fs;
use std::path::{Path, PathBuf};

use super::{KINDS, kind, section};
use crate::{Error, html};

/// How deep below the folder results are looked for: in it, in its runs, in their adapters.
const DEPTH: usize = 2;

/// Writes `dir/report.html`, all results of `coto`'s instruments in the folder and those below it on one page, and returns its path.
///
/// # Errors
/// A folder that cannot be read or holds no result, a result that is malformed, and a page that cannot be written.
pub fn gather(dir: &Path) -> Result<PathBuf, Error> {
    let mut paths = Vec::new();
    find(dir, DEPTH, &mut paths)?;
    // By kind, then by place.
    paths.sort();
    if paths.is_empty() {
        return Err(Error::Empty {
            path: dir.to_owned(),
            what: "results",
        });
    }
    let sections = paths.iter().enumerate().map(|(number, (_, path))| {
        let section = section(path, &format!("result-{number}"))?;
        let shown = path.strip_prefix(dir).unwrap_or(path).display().to_string();
        Ok((section, shown))
    });
    let sections = sections.collect::<Result<Vec<_>, Error>>()?;
    let listed: Vec<Vec<String>> = sections
        .iter()
        .map(|(section, path)| vec![section.title.clone(), path.clone()])
        .collect();
    let head = ["Result", "File"].map(str::to_owned);
    let mut body = html::table("settings", "What is on this page.", &head, &listed);
    for (section, path) in &sections {
        body += &format!("<h2>{}</h2>\n", html::escape(&section.title));
        body += &html::paragraph("note", path);
        body += &section.body;
    }
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = whole
        .file_name()
        .map_or("a folder".into(), |name| name.to_string_lossy());
    let page = html::page(&format!("Results in {name}"), &body);
    html::publish(dir.join("report.html"), &page)
}

/// Whether a folder, or one below it, holds a result.
pub fn has_results(dir: &Path) -> bool {
    let mut paths = Vec::new();
    find(dir, DEPTH, &mut paths).is_ok() && !paths.is_empty()
}

/// The results in a folder, each with the place of its kind.
fn find(dir: &Path, depth: usize, found: &mut Vec<(usize, PathBuf)>) -> Result<(), Error> {
    let io = |cause| Error::Io {
        action: "read",
        path: dir.to_owned(),
        cause,
    };
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            if depth > 0 {
                find(&path, depth - 1, found)?;
            }
        } else if path.extension().is_some_and(|end| end == "json")
            && let Some(kind) = kind(&path)
            && let Some(place) = KINDS.iter().position(|known| *known == kind)
        {
            found.push((place, path));
        }
    }
    Ok(())
}
