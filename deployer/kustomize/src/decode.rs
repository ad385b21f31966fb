//! Values to the structures of a kustomization, as strict and as tolerant as
//! kustomize: names of fields in any case, unknown ones refused.

use crate::Error;
use crate::resource::Strings;
use crate::yaml::Value;

/// The fields of a mapping while they are read.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    at: String,
    fields: &'a [(String, Value)],
    used: Vec<bool>,
    coerce: bool,
    strict: bool,
}

impl<'a> Fields<'a> {
    /// A kustomization: numbers and booleans are not strings, unknown fields
    /// are refused.
    pub(crate) fn strict(value: &'a Value, at: &str) -> Result<Self, Error> {
        Self::new(value, at, false, true)
    }

    /// Other files: numbers and booleans are taken as strings where strings
    /// are expected, unknown fields are refused.
    pub(crate) fn coerced(value: &'a Value, at: &str) -> Result<Self, Error> {
        Self::new(value, at, true, true)
    }

    /// Files in which unknown fields mean nothing.
    pub(crate) fn lenient(value: &'a Value, at: &str) -> Result<Self, Error> {
        Self::new(value, at, true, false)
    }

    fn new(value: &'a Value, at: &str, coerce: bool, strict: bool) -> Result<Self, Error> {
        let fields: &[(String, Value)] = match value {
            Value::Map(fields) => fields,
            Value::Null => &[],
            other => return Err(wrong(at, "a mapping", other)),
        };
        Ok(Self {
            at: at.to_owned(),
            fields,
            used: vec![false; fields.len()],
            coerce,
            strict,
        })
    }

    /// The name of a field with the fields around it.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.at.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.at)
        }
    }

    /// A field that is not null.
    pub(crate) fn value(&mut self, name: &str) -> Option<&'a Value> {
        let mut found = None;
        for (at, (key, value)) in self.fields.iter().enumerate() {
            if key.eq_ignore_ascii_case(name) {
                self.used[at] = true;
                found = Some(value);
            }
        }
        found.filter(|value| **value != Value::Null)
    }

    /// A text; empty if it is missing.
    pub(crate) fn string(&mut self, name: &str) -> Result<String, Error> {
        let path = self.path(name);
        let coerce = self.coerce;
        self.value(name)
            .map_or(Ok(String::new()), |value| text(&path, value, coerce))
    }

    /// A text that may be missing.
    pub(crate) fn optional(&mut self, name: &str) -> Result<Option<String>, Error> {
        let path = self.path(name);
        let coerce = self.coerce;
        self.value(name)
            .map(|value| text(&path, value, coerce))
            .transpose()
    }

    /// A boolean; false if it is missing.
    pub(crate) fn bool(&mut self, name: &str) -> Result<bool, Error> {
        let path = self.path(name);
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(wrong(&path, "true or false", other)),
        }
    }

    /// A whole number; zero if it is missing.
    pub(crate) fn int(&mut self, name: &str) -> Result<i64, Error> {
        let path = self.path(name);
        match self.value(name) {
            None => Ok(0),
            Some(Value::Number(crate::yaml::value::Number::Int(value))) => Ok(*value),
            Some(other) => Err(wrong(&path, "a whole number", other)),
        }
    }

    /// A list of anything; [`None`] if it is missing.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<&'a [Value]>, Error> {
        let path = self.path(name);
        match self.value(name) {
            None => Ok(None),
            Some(Value::List(items)) => Ok(Some(items)),
            Some(other) => Err(wrong(&path, "a list", other)),
        }
    }

    /// A list of texts.
    pub(crate) fn strings(&mut self, name: &str) -> Result<Vec<String>, Error> {
        let path = self.path(name);
        let coerce = self.coerce;
        self.list(name)?
            .unwrap_or(&[])
            .iter()
            .enumerate()
            .map(|(at, item)| match item {
                Value::Null => Ok(String::new()),
                item => text(&format!("{path}[{at}]"), item, coerce),
            })
            .collect()
    }

    /// A mapping of texts; [`None`] if it is missing.
    pub(crate) fn string_map(&mut self, name: &str) -> Result<Option<Strings>, Error> {
        let path = self.path(name);
        let coerce = self.coerce;
        match self.value(name) {
            None => Ok(None),
            Some(Value::Map(fields)) => fields
                .iter()
                .map(|(key, item)| match item {
                    Value::Null => Ok((key.clone(), String::new())),
                    item => Ok((key.clone(), text(&format!("{path}.{key}"), item, coerce)?)),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(other) => Err(wrong(&path, "a mapping", other)),
        }
    }

    /// A structure inside of this one.
    pub(crate) fn inner(&mut self, name: &str) -> Result<Option<Fields<'a>>, Error> {
        let path = self.path(name);
        let (coerce, strict) = (self.coerce, self.strict);
        self.value(name)
            .map(|value| Self::new(value, &path, coerce, strict))
            .transpose()
    }

    /// A list of structures.
    pub(crate) fn structs(&mut self, name: &str) -> Result<Vec<Fields<'a>>, Error> {
        let path = self.path(name);
        let (coerce, strict) = (self.coerce, self.strict);
        self.list(name)?
            .unwrap_or(&[])
            .iter()
            .enumerate()
            .map(|(at, item)| Self::new(item, &format!("{path}[{at}]"), coerce, strict))
            .collect()
    }

    /// Refuses fields that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let unknown = self.used.iter().position(|used| !used && self.strict);
        match unknown {
            None => Ok(()),
            Some(at) => Err(Error::UnknownField {
                field: self.path(&self.fields[at].0),
            }),
        }
    }
}

fn text(path: &str, value: &Value, coerce: bool) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if coerce => Ok(number.to_yaml()),
        Value::Bool(value) if coerce => Ok(value.to_string()),
        other => Err(wrong(path, "a string", other)),
    }
}

fn wrong(path: &str, expected: &'static str, found: &Value) -> Error {
    Error::Type {
        field: path.to_owned(),
        expected,
        found: found.kind(),
    }
}
