//! From text to the objects in it: documents one after another, lists taken apart.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{MessageFormatter, Options, UserMessageFormatter};

/// An object as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it stands.
    pub position: Position,
    /// What it says.
    pub fields: Map<String, Value>,
}

/// Where in a text an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// It is a document of its own that begins at this line.
    Line(u64),
    /// It is this entry of a list, from 0.
    Item(usize),
    /// Nobody knows.
    Unknown,
}

/// Why a text is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line and column, from 1.
    pub at: Option<(u64, u64)>,
    /// What is wrong.
    pub message: String,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl Syntax {
    /// By the end of a file's name.
    pub fn of(file_name: &[u8]) -> Option<Self> {
        let dot = file_name.iter().rposition(|byte| *byte == b'.')?;
        match file_name.get(dot..)? {
            b".yaml" | b".yml" => Some(Self::Yaml),
            b".json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A part of a text that can be read on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The number of its first line, from 1.
    pub line: u64,
    /// Its text.
    pub text: &'a str,
    /// Where its object stands.
    pub position: Position,
}

/// The documents of a YAML text, not yet parsed. A line that begins with `---` begins a document wherever it
/// stands, even in a quoted text. A text with directives is left whole, and so is JSON.
pub fn chunks(syntax: Syntax, text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let directive = text.starts_with('%') || text.contains("\n%");
    if syntax == Syntax::Json || directive {
        return vec![Chunk { line: 1, text, position: Position::Unknown }];
    }
    let mut chunks = Vec::new();
    let (mut start, mut first, mut end) = (0, 1, 0);
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        if after_marker(line).is_some() && start < end {
            chunks.extend(text.get(start..end).map(|text| placed(text, first)));
            (start, first) = (end, number);
        }
        end += line.len();
    }
    chunks.extend(text.get(start..end).map(|text| placed(text, first)));
    chunks
}

/// What the objects of a chunk mean. Each entry of a list is understood as soon as it is read, so that only one
/// at a time stands in memory as a tree.
pub fn read<T: From<Document>>(syntax: Syntax, chunk: Chunk<'_>) -> Result<Vec<T>, SyntaxError> {
    let meanings = match syntax {
        Syntax::Yaml => serde_saphyr::from_multiple_with_options::<Meaning<T>>(chunk.text, yaml_options())
            .map_err(SyntaxError::from),
        Syntax::Json => serde_json::Deserializer::from_str(chunk.text)
            .into_iter()
            .collect::<Result<Vec<Meaning<T>>, _>>()
            .map_err(SyntaxError::from),
    };
    let meanings = meanings.map_err(|error| {
        let start = match chunk.position {
            Position::Line(line) => Some((line, 1)),
            Position::Item(_) | Position::Unknown => None,
        };
        SyntaxError { at: error.at.map(|(line, column)| (line + chunk.line - 1, column)).or(start), ..error }
    })?;
    let understood = |meaning| match meaning {
        Meaning::Object(fields) => vec![Document { position: chunk.position, fields }.into()],
        Meaning::List(entries) => entries,
    };
    Ok(meanings.into_iter().flat_map(understood).collect())
}

/// What stands behind the mark that begins a document, if a line does begin one.
fn after_marker(line: &str) -> Option<&str> {
    line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// A document, which stands where its first line of content does.
fn placed(text: &str, line: u64) -> Chunk<'_> {
    let has_content = |line: &str| {
        let content = after_marker(line).unwrap_or(line).trim_start();
        !content.is_empty() && !content.starts_with('#')
    };
    let content = text.lines().zip(line..).find(|(line, _)| has_content(line));
    Chunk { line, text, position: Position::Line(content.map_or(line, |(_, line)| line)) }
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

/// What a document means, be it an object or a list of them.
enum Meaning<T> {
    Object(Map<String, Value>),
    List(Vec<T>),
}

impl<'de, T: From<Document>> Deserialize<'de> for Meaning<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Tree { fields, entries } = Tree::deserialize(deserializer)?;
        if entry_kind(&fields).is_none() {
            return Ok(Self::Object(fields));
        }
        let mut list = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry {
                Entry::Understood(meaning) => list.extend(meaning),
                Entry::Waiting(index, entry) => {
                    let entry = completed(entry, &fields);
                    take_apart(entry, Position::Item(index), &mut |document| list.push(document.into()));
                }
            }
        }
        Ok(Self::List(list))
    }
}

/// An object, and the entries of a list, should it turn out to be one.
struct Tree<T> {
    fields: Map<String, Value>,
    entries: Vec<Entry<T>>,
}

/// An entry of a list.
enum Entry<T> {
    /// It told its kind, and was understood at once.
    Understood(Vec<T>),
    /// It did not, and the list may tell it later.
    Waiting(usize, Map<String, Value>),
}

impl<'de, T: From<Document>> Deserialize<'de> for Tree<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor(PhantomData))
    }
}

struct TreeVisitor<T>(PhantomData<T>);

impl<'de, T: From<Document>> Visitor<'de> for TreeVisitor<T> {
    type Value = Tree<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree<T>, A::Error> {
        let mut tree = Tree { fields: Map::new(), entries: Vec::new() };
        while let Some(name) = map.next_key::<String>()? {
            if name == "items" {
                tree.entries = map.next_value::<Items<T>>()?.0;
            } else {
                tree.fields.insert(name, map.next_value()?);
            }
        }
        Ok(tree)
    }
}

/// What stands under `items`. In an object that is no list it can be anything, which then has no entries.
struct Items<T>(Vec<Entry<T>>);

impl<'de, T: From<Document>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor(PhantomData))
    }
}

struct ItemsVisitor<T>(PhantomData<T>);

impl<'de, T: From<Document>> Visitor<'de> for ItemsVisitor<T> {
    type Value = Items<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the entries of a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<T>, A::Error> {
        let mut entries = Vec::new();
        for index in 0.. {
            let entry = match seq.next_element()? {
                Some(Value::Object(entry)) => entry,
                Some(_) => continue,
                None => break,
            };
            entries.push(if entry.contains_key("kind") && entry.contains_key("apiVersion") {
                let mut meaning = Vec::with_capacity(1);
                take_apart(entry, Position::Item(index), &mut |document| meaning.push(document.into()));
                Entry::Understood(meaning)
            } else {
                Entry::Waiting(index, entry)
            });
        }
        Ok(Items(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Items<T>, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Items(Vec::new()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Items<T>, E> {
        Ok(Items(Vec::new()))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Items<T>, E> {
        Ok(Items(Vec::new()))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Items<T>, E> {
        Ok(Items(Vec::new()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Items<T>, E> {
        Ok(Items(Vec::new()))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Items<T>, E> {
        Ok(Items(Vec::new()))
    }

    fn visit_unit<E: Error>(self) -> Result<Items<T>, E> {
        Ok(Items(Vec::new()))
    }
}

/// A list within a list is rare, and small.
fn take_apart(mut fields: Map<String, Value>, position: Position, take: &mut dyn FnMut(Document)) {
    let items = match entry_kind(&fields) {
        Some(_) => fields.remove("items"),
        None => return take(Document { position, fields }),
    };
    let entries = match items {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    for entry in entries {
        if let Value::Object(entry) = entry {
            take_apart(completed(entry, &fields), position, take);
        }
    }
}

/// The API leaves kind and version out of the entries of a typed list.
fn completed(mut entry: Map<String, Value>, list: &Map<String, Value>) -> Map<String, Value> {
    if let Some(kind) = entry_kind(list).filter(|kind| !kind.is_empty()) {
        entry.entry("kind").or_insert_with(|| kind.into());
        let api_version = list.get("apiVersion").cloned().unwrap_or_default();
        entry.entry("apiVersion").or_insert(api_version);
    }
    entry
}

/// The kind of a list's entries, empty if they tell it themselves; none if this is no list.
fn entry_kind(fields: &Map<String, Value>) -> Option<&str> {
    fields.get("kind")?.as_str()?.strip_suffix("List")
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
