use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::nearest::nearest;
use crate::{Array, Error, Value};

/// The metadata of a file: values of many types by keys such as `llama.block_count`.
///
/// The getters name the file, the key and what they found when they cannot answer. Whole numbers come from any integer
/// type in the file as long as they fit; every other type must be the one asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    pub(crate) path: PathBuf,
    pub(crate) entries: BTreeMap<String, Value>,
}

impl Metadata {
    /// The value of a key, if the file has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Every key with its value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A whole number of 32 bits.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`], and [`Error::Range`] when it is negative or too large.
    pub fn get_u32(&self, key: &str) -> Result<u32, Error> {
        self.integer(key, "a u32")
    }

    /// A whole number of 64 bits.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`], and [`Error::Range`] when it is negative.
    pub fn get_u64(&self, key: &str) -> Result<u64, Error> {
        self.integer(key, "a u64")
    }

    /// A number of type f32.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`].
    pub fn get_f32(&self, key: &str) -> Result<f32, Error> {
        match self.value(key)? {
            Value::F32(v) => Ok(*v),
            value => Err(self.wrong(key, value, "an f32")),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`].
    pub fn get_bool(&self, key: &str) -> Result<bool, Error> {
        match self.value(key)? {
            Value::Bool(v) => Ok(*v),
            value => Err(self.wrong(key, value, "a bool")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`].
    pub fn get_str(&self, key: &str) -> Result<&str, Error> {
        match self.value(key)? {
            Value::String(v) => Ok(v),
            value => Err(self.wrong(key, value, "a string")),
        }
    }

    /// An array of texts.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`], [`Error::WrongElements`].
    pub fn get_strings(&self, key: &str) -> Result<&[String], Error> {
        match self.value(key)? {
            Value::Array(Array::String(v)) => Ok(v),
            value => Err(self.wrong(key, value, "an array of string")),
        }
    }

    /// An array of numbers of type f32.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`], [`Error::WrongElements`].
    pub fn get_f32s(&self, key: &str) -> Result<&[f32], Error> {
        match self.value(key)? {
            Value::Array(Array::F32(v)) => Ok(v),
            value => Err(self.wrong(key, value, "an array of f32")),
        }
    }

    /// An array of whole numbers of 32 bits.
    ///
    /// # Errors
    /// [`Error::MissingKey`], [`Error::WrongType`], [`Error::WrongElements`], [`Error::Range`] when one does not fit.
    pub fn get_i32s(&self, key: &str) -> Result<Vec<i32>, Error> {
        let expected = "an array of i32";
        let value = self.value(key)?;
        let numbers = match value {
            Value::Array(array) => array.as_integers(),
            _ => None,
        };
        numbers
            .ok_or_else(|| self.wrong(key, value, expected))?
            .into_iter()
            .map(|v| i32::try_from(v).map_err(|_| self.range(key, v, "an i32")))
            .collect()
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, expected: &'static str) -> Result<T, Error> {
        let value = self.value(key)?;
        let number = value
            .as_integer()
            .ok_or_else(|| self.wrong(key, value, expected))?;
        T::try_from(number).map_err(|_| self.range(key, number, expected))
    }

    fn value(&self, key: &str) -> Result<&Value, Error> {
        self.get(key).ok_or_else(|| {
            self.here(Error::MissingKey {
                key: key.to_owned(),
                nearest: nearest(key, self.entries.keys().map(String::as_str)),
            })
        })
    }

    fn wrong(&self, key: &str, value: &Value, expected: &'static str) -> Error {
        let key = key.to_owned();
        self.here(match value {
            Value::Array(array) => Error::WrongElements {
                key,
                found: array.element_type(),
                expected,
            },
            value => Error::WrongType {
                key,
                found: value.value_type(),
                expected,
            },
        })
    }

    fn range(&self, key: &str, value: i128, expected: &'static str) -> Error {
        self.here(Error::Range {
            key: key.to_owned(),
            value,
            expected,
        })
    }

    fn here(&self, error: Error) -> Error {
        error.at(format_args!("`{}`", self.path.display()))
    }
}
