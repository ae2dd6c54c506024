//! The fields of an object, each taken once, by path; those that nobody took are unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use manifest_documents::Findings;
use serde_json::{Map, Value};

/// What was found in one object.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What refuses it.
    pub(crate) refused: RefCell<Findings>,
    /// What deserves a word.
    pub(crate) remarks: RefCell<Findings>,
}

/// A mapping, of which fields are taken one by one.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: String,
    left: Map<String, Value>,
    notes: &'a Notes,
}

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct At<'a> {
    pub(crate) path: String,
    value: Value,
    notes: &'a Notes,
}

impl Notes {
    pub(crate) fn refuse(&self, path: impl fmt::Display, message: impl Into<String>) {
        self.refused.borrow_mut().refuse(path, message);
    }

    pub(crate) fn remark(&self, path: impl fmt::Display, message: impl Into<String>) {
        self.remarks.borrow_mut().remark(path, message);
    }
}

impl<'a> Fields<'a> {
    /// The outermost fields of an object.
    pub(crate) fn of(object: Map<String, Value>, notes: &'a Notes) -> Self {
        Self { path: String::new(), left: object, notes }
    }

    /// Takes a field; none if it is absent or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<At<'a>> {
        let value = self.left.remove(name).filter(|value| !value.is_null())?;
        Some(At { path: self.path_of(name), value, notes: self.notes })
    }

    /// A text that may be absent or empty, which is the same.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name)?.text().filter(|text| !text.is_empty())
    }

    /// A text that must be there; empty once its absence is told.
    pub(crate) fn needed(&mut self, name: &str) -> String {
        if !self.has(name) {
            self.refuse(name, "is missing");
            return String::new();
        }
        let text = self.take(name).and_then(At::text).unwrap_or_default();
        if text.is_empty() {
            self.refuse(name, "is empty"); // of a value that is no text the first complaint is kept
        }
        text
    }

    /// A whole number of a type that may be narrow.
    pub(crate) fn number<N: TryFrom<i64>>(&mut self, name: &str) -> Option<N> {
        self.take(name)?.number()
    }

    pub(crate) fn is_set(&mut self, name: &str) -> bool {
        self.flag(name).unwrap_or_default()
    }

    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let at = self.take(name)?;
        match at.value.as_bool() {
            Some(flag) => Some(flag),
            None => at.wrong("true or false"),
        }
    }

    /// One of these words.
    pub(crate) fn choice<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let at = self.take(name)?;
        let path = at.path.clone();
        let text = at.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
            self.notes.refuse(path, format!("{text:?} is not one of {}", known.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    pub(crate) fn object(&mut self, name: &str) -> Option<Fields<'a>> {
        self.take(name)?.object()
    }

    /// A mapping that must be there; empty once its absence is told.
    pub(crate) fn needed_object(&mut self, name: &str) -> Fields<'a> {
        if !self.has(name) {
            self.refuse(name, "is missing");
        }
        let empty = Fields { path: self.path_of(name), left: Map::new(), notes: self.notes };
        self.object(name).unwrap_or(empty)
    }

    pub(crate) fn list(&mut self, name: &str) -> Vec<At<'a>> {
        let Some(At { path, value, notes }) = self.take(name) else { return Vec::new() };
        let Value::Array(entries) = value else {
            notes.refuse(path, "is not a list");
            return Vec::new();
        };
        let placed = |(index, value)| At { path: format!("{path}[{index}]"), value, notes };
        entries.into_iter().enumerate().map(placed).collect()
    }

    pub(crate) fn objects(&mut self, name: &str) -> Vec<Fields<'a>> {
        self.list(name).into_iter().filter_map(At::object).collect()
    }

    pub(crate) fn texts(&mut self, name: &str) -> Vec<String> {
        self.list(name).into_iter().filter_map(At::text).collect()
    }

    /// Texts by name, as labels are.
    pub(crate) fn texts_by_name(&mut self, name: &str) -> BTreeMap<String, String> {
        let Some(fields) = self.object(name) else { return BTreeMap::new() };
        fields.each().filter_map(|(key, at)| Some((key, at.text()?))).collect()
    }

    /// Every field that is left, by name.
    pub(crate) fn each(self) -> impl Iterator<Item = (String, At<'a>)> {
        let Self { path, left, notes } = self;
        left.into_iter().filter(|(_, value)| !value.is_null()).map(move |(key, value)| {
            let path = joined(&path, &key);
            (key, At { path, value, notes })
        })
    }

    /// Fields that mean nothing here, each with a remark if it is set.
    pub(crate) fn pass_over(&mut self, names: &[&str], why: &str) {
        for name in names {
            if let Some(at) = self.take(name).filter(|at| !at.is_empty()) {
                self.notes.remark(at.path, format!("is passed over: {why}"));
            }
        }
    }

    /// Fields that cannot be honoured and may not be passed over.
    pub(crate) fn cannot(&mut self, names: &[&str], why: &str) {
        for name in names {
            if let Some(at) = self.take(name).filter(|at| !at.is_empty()) {
                self.notes.refuse(at.path, why);
            }
        }
    }

    /// The names of the fields that are left beside these.
    pub(crate) fn others(&self, known: &[&str]) -> Vec<String> {
        self.left.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect()
    }

    pub(crate) fn remark(&self, name: &str, message: impl Into<String>) {
        self.notes.remark(self.path_of(name), message);
    }

    pub(crate) fn refuse(&self, name: &str, message: impl Into<String>) {
        self.notes.refuse(self.path_of(name), message);
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) {
        for (_, at) in self.each() {
            at.notes.refuse(at.path, "is not a field that is known here");
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.left.get(name)
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn notes(&self) -> &'a Notes {
        self.notes
    }

    fn path_of(&self, name: &str) -> String {
        joined(&self.path, name)
    }
}

impl<'a> At<'a> {
    pub(crate) fn text(self) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.wrong("text")
            }
        }
    }

    pub(crate) fn number<N: TryFrom<i64>>(self) -> Option<N> {
        let number = self.value.as_i64();
        match number.and_then(|number| N::try_from(number).ok()) {
            Some(number) => Some(number),
            None if number.is_some() => self.wrong("in its range"),
            None => self.wrong("a whole number"),
        }
    }

    pub(crate) fn object(self) -> Option<Fields<'a>> {
        match self.value {
            Value::Object(left) => Some(Fields { path: self.path, left, notes: self.notes }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::String(_) => {
                self.wrong("a mapping")
            }
        }
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Tells that the value is not what it should be.
    pub(crate) fn wrong<T>(self, should: &str) -> Option<T> {
        let Self { path, value, notes } = self;
        let shown = value.to_string();
        let shown = if shown.len() > 60 { "this".to_owned() } else { shown };
        notes.refuse(path, format!("{shown} is not {should}"));
        None
    }

    fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Bool(flag) => !flag,
            Value::Number(_) => false,
            Value::String(text) => text.is_empty(),
            Value::Array(entries) => entries.is_empty(),
            Value::Object(fields) => fields.is_empty(),
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
    match (path, plain) {
        ("", _) => name.to_owned(),
        (path, true) => format!("{path}.{name}"),
        (path, false) => format!("{path}[{name}]"),
    }
}
