use std::fmt::Write as _;
use std::io;

use chrono::DateTime;
use minijinja::Value;
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// How Python's `json.dumps` is asked to write.
pub(super) struct JsonStyle {
    /// Only ASCII, the rest as `\u` escapes.
    pub(super) ascii: bool,
    /// A line for each item, indented by this for each level; one line for all if none.
    pub(super) indent: Option<String>,
    /// Between items, and between a key and its value; `", "` (or `","` before a line end) and `": "` by default.
    pub(super) separators: Option<[String; 2]>,
    /// The keys of a dict in their order.
    pub(super) sort_keys: bool,
}

/// No JSON is longer, in bytes, or deeper: a template may ask for any.
const LONGEST: usize = 16 << 20;
const DEEPEST: usize = 100;

/// A value as `json.dumps` writes it.
pub(super) fn json(value: &Value, style: JsonStyle) -> serde_json::Result<String> {
    let item = if style.indent.is_some() { "," } else { ", " };
    let [item, key] = style
        .separators
        .unwrap_or_else(|| [item.to_owned(), ": ".to_owned()]);
    let writer = || Writer {
        ascii: style.ascii,
        indent: style.indent.clone(),
        item: item.clone(),
        key: key.clone(),
        depth: 0,
        filled: false,
    };
    let mut out = Bounded(Vec::new());
    if style.sort_keys {
        value.serialize(&mut Serializer::with_formatter(&mut out, writer().plain()))?;
        let mut value: serde_json::Value = serde_json::from_slice(&out.0)?;
        value.sort_all_objects();
        out.0.clear();
        value.serialize(&mut Serializer::with_formatter(&mut out, writer()))?;
    } else {
        value.serialize(&mut Serializer::with_formatter(&mut out, writer()))?;
    }
    Ok(String::from_utf8_lossy(&out.0).into_owned())
}

struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::Error::other("the JSON is too long"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    depth: usize,
    /// Whether the innermost list or dict has an item.
    filled: bool,
}

impl Writer {
    /// One that writes JSON that can be read again.
    fn plain(self) -> Self {
        Self {
            indent: None,
            item: ",".to_owned(),
            key: ":".to_owned(),
            ..self
        }
    }

    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.depth == DEEPEST {
            return Err(io::Error::other("the JSON is too deep"));
        }
        self.depth += 1;
        self.filled = false;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.new_line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }

    fn next<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.filled = true;
        self.new_line(out)
    }

    fn new_line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        match &self.indent {
            Some(indent) => {
                out.write_all(b"\n")?;
                (0..self.depth).try_for_each(|_| out.write_all(indent.as_bytes()))
            }
            None => Ok(()),
        }
    }
}

impl Formatter for Writer {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(fragment.as_bytes());
        }
        let mut units = [0; 2];
        for character in fragment.chars() {
            match character.is_ascii() {
                true => out.write_all(&[character as u8])?,
                false => {
                    for unit in character.encode_utf16(&mut units) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Quote => out.write_all(b"\\\""),
            CharEscape::ReverseSolidus => out.write_all(b"\\\\"),
            CharEscape::Solidus => out.write_all(b"/"),
            CharEscape::Backspace => out.write_all(b"\\b"),
            CharEscape::FormFeed => out.write_all(b"\\f"),
            CharEscape::LineFeed => out.write_all(b"\\n"),
            CharEscape::CarriageReturn => out.write_all(b"\\r"),
            CharEscape::Tab => out.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(out, "\\u{byte:04x}"),
        }
    }
}

/// A time, in seconds since 1970, in UTC and in the format of Python's `strftime`; nothing if that is no format.
pub(super) fn strftime(seconds: u64, format: &str) -> Option<String> {
    let time = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?;
    let mut text = String::new();
    write!(text, "{}", time.format(format)).ok()?;
    Some(text)
}
