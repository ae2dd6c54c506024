//! What is wrong with an object, each with the path of its field.

use std::fmt;

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Kind, namespace and name.
    pub object: String,
    /// `spec.ports[0].port`
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// What was found wrong with one object.
#[derive(Debug, Default)]
pub struct Findings {
    fields: Vec<(String, String)>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verdict {
    #[default]
    Accepted,
    Refused,
}

impl Findings {
    /// A field that refuses the object. Of several complaints about one field the first is kept.
    pub fn refuse(&mut self, path: impl fmt::Display, message: impl Into<String>) {
        self.verdict = Verdict::Refused;
        self.remark(path, message);
    }

    /// A field that was dropped, or that deserves a word.
    pub fn remark(&mut self, path: impl fmt::Display, message: impl Into<String>) {
        let path = path.to_string();
        if self.fields.iter().all(|(known, _)| *known != path) {
            self.fields.push((path, message.into()));
        }
    }

    /// What was found, told of an object.
    pub fn into_errors(self, object: impl Fn() -> String) -> Vec<FieldError> {
        self.fields
            .into_iter()
            .map(|(path, message)| FieldError { object: object(), path, message })
            .collect()
    }

    /// The value that was read. If there is none, the object is refused, and any stand-in will do.
    pub fn check<T>(&mut self, path: fmt::Arguments<'_>, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.refuse(path, message)).ok()
    }

    /// This value, unless the object is refused.
    pub fn unless_refused<T>(&self, value: T) -> Option<T> {
        (self.verdict == Verdict::Accepted).then_some(value)
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.object, self.path, self.message)
    }
}
