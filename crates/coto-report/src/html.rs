//! The page around the pictures: escaping, tables, the style sheet, and writing it into place.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::Error;

/// The text with everything that HTML would read as markup made literal, for content and quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// `<p class="class">` around a plain text.
pub(crate) fn paragraph(class: &str, text: &str) -> String {
    format!("<p class=\"{class}\">{}</p>\n", escape(text))
}

/// A table of plain texts; the first cell of each row is its header. Without `head` it has no header row.
pub(crate) fn table(class: &str, caption: &str, head: &[String], rows: &[Vec<String>]) -> String {
    let mut out = format!(
        "<table class=\"{class}\">\n<caption>{}</caption>\n",
        escape(caption)
    );
    if !head.is_empty() {
        out.push_str("<thead><tr>");
        for cell in head {
            let _ = write!(out, "<th scope=\"col\">{}</th>", escape(cell));
        }
        out.push_str("</tr></thead>\n");
    }
    out.push_str("<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (index, cell) in row.iter().map(|cell| escape(cell)).enumerate() {
            let _ = match index {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n");
    out
}

/// The whole document. `title` is plain text, `body` is markup.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    let style = include_str!("page.css");
    // The policy makes the browser hold the page to its promise: whatever slipped in, nothing is loaded or run.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Writes a page beside its place and renames it into it.
pub(crate) fn publish(path: PathBuf, page: &str) -> Result<PathBuf, Error> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let write = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".report-");
        // A temporary file is private to its owner; a report is a file like any other.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(dir)?;
        file.write_all(page.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|refused| refused.error)
    };
    match write() {
        Ok(_) => Ok(path),
        Err(cause) => Err(Error::Io {
            action: "write",
            path,
            cause,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_comes_out_literal() {
        assert_eq!(
            escape(r#"<a b="c" d='e'>&amp;"#),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;"
        );
    }

    #[test]
    fn publishing_replaces_the_old_page_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        publish(dir.path().join("report.html"), "old").unwrap();
        let path = publish(dir.path().join("report.html"), "new").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = publish("nowhere/at/all/report.html".into(), "").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot write `nowhere/at/all"),
            "{error}"
        );
    }
}
