//! From text to the objects in it: documents one after another, lists taken apart.

use serde::de::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_saphyr::{MessageFormatter, Options, Spanned, UserMessageFormatter};

/// An object as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub(crate) position: Position,
    pub(crate) fields: Map<String, Value>,
}

/// Where in a text an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// It is a document of its own that begins at this line.
    Line(u64),
    /// It is this entry of a list, from 0.
    Item(usize),
    /// Nobody knows.
    Unknown,
}

/// Why a text is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Line and column, from 1.
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) message: String,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    Yaml,
    Json,
}

impl Syntax {
    /// By the end of a file's name.
    pub(crate) fn of(file_name: &[u8]) -> Option<Self> {
        let dot = file_name.iter().rposition(|byte| *byte == b'.')?;
        match file_name.get(dot..)? {
            b".yaml" | b".yml" => Some(Self::Yaml),
            b".json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// What the objects of a text mean. Each document is understood as soon as it is read, so that only one at a
/// time stands in memory as a tree.
pub(crate) fn read<T: From<Document>>(syntax: Syntax, text: &str) -> Result<Vec<T>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let meanings: Vec<Meaning<T>> = match syntax {
        Syntax::Yaml => serde_saphyr::from_multiple_with_options(text, yaml_options())?,
        Syntax::Json => serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>()?,
    };
    Ok(meanings.into_iter().flat_map(|meaning| meaning.0).collect())
}

/// Every node of a file that is small enough to be read may be real; what anchors multiply may not be much.
fn yaml_options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 64 << 20,
            max_nodes: 32 << 20,
            max_documents: 1 << 20,
            max_total_scalar_bytes: 256 << 20,
        },
        emit_comments: false,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// What a document means, be it an object, a list of them, or nothing.
struct Meaning<T>(Vec<T>);

impl<'de, T: From<Document>> Deserialize<'de> for Meaning<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree = Spanned::<Value>::deserialize(deserializer)?;
        let line = tree.referenced.line();
        let position = if line == 0 { Position::Unknown } else { Position::Line(line) };
        let mut meaning = Vec::new();
        take_apart(tree.value, position, &mut |document| meaning.push(document.into()));
        Ok(Self(meaning))
    }
}

fn take_apart(value: Value, position: Position, take: &mut dyn FnMut(Document)) {
    let Value::Object(mut fields) = value else { return };
    let (Some(kind), Some(Value::Array(items))) = (entry_kind(&fields), fields.get_mut("items")) else {
        return take(Document { position, fields });
    };
    let items = std::mem::take(items);
    for (index, mut item) in items.into_iter().enumerate() {
        if let (false, Some(entry)) = (kind.is_empty(), item.as_object_mut()) {
            // The API leaves both out of the entries of a typed list.
            entry.entry("kind").or_insert_with(|| Value::from(&*kind));
            let api_version = fields.get("apiVersion").cloned().unwrap_or_default();
            entry.entry("apiVersion").or_insert(api_version);
        }
        take_apart(item, Position::Item(index), take);
    }
}

/// The kind of a list's entries, empty if they tell it themselves; none if this is no list.
fn entry_kind(fields: &Map<String, Value>) -> Option<String> {
    Some(fields.get("kind")?.as_str()?.strip_suffix("List")?.to_owned())
}

impl From<serde_saphyr::Error> for SyntaxError {
    fn from(error: serde_saphyr::Error) -> Self {
        Self {
            at: error.location().map(|at| (at.line(), at.column())),
            message: UserMessageFormatter.format_message(&error).into_owned(),
        }
    }
}

impl From<serde_json::Error> for SyntaxError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let place = format!(" at line {line} column {column}");
        Self {
            at: u64::try_from(line).ok().zip(u64::try_from(column).ok()),
            message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
