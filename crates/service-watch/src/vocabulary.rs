//! What whoever reads a directory of manifests makes of the documents in it.

use std::fmt;
use std::time::Instant;

use manifest_documents::{Document, FieldError, Position};

use crate::Report;

/// What documents mean to somebody.
pub trait Vocabulary: Sized + Send + 'static {
    /// Which object; it is printed with its kind.
    type Key: Clone + Ord + fmt::Debug + fmt::Display + Send;
    /// An object, understood.
    type Fact: Clone + PartialEq + fmt::Debug + Send;
    /// What is sent of changes.
    type News: Send;

    /// What a document says.
    fn statement(document: Document) -> Statement<Self::Key, Self::Fact>;

    /// Whether an object counts at all.
    fn concerns(&self, _key: &Self::Key) -> bool {
        true
    }

    /// What is to be sent of changes.
    fn news(&mut self, changes: Changes<Self::Key, Self::Fact>) -> Self::News;
}

/// What a document says.
#[derive(Debug)]
pub struct Statement<K, F> {
    /// Where it stands.
    pub position: Position,
    /// Of which object.
    pub about: About<K, F>,
    /// What is wrong with it.
    pub problems: Vec<FieldError>,
}

/// Whether a document speaks of an object.
#[derive(Debug)]
pub enum About<K, F> {
    /// Of this one.
    Object(K, Claim<F>),
    /// Of none that can be told.
    Nothing,
}

/// What is said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim<F> {
    /// It is this.
    Is(F),
    /// It is none of our business.
    NotOurs,
    /// It is wrong, so it is what it was.
    Refused,
}

/// What changed in a directory.
#[derive(Clone, Debug)]
pub struct Changes<K, F> {
    /// The objects that are others than before, and those that are no more, in the order of their keys.
    pub objects: Vec<(K, Option<F>)>,
    /// The problems that are new.
    pub reports: Vec<Report>,
    /// Whether this is all that there is.
    pub lists: Lists,
    /// When it arrived here, where that was seen.
    pub received: Option<Instant>,
}

/// Whether changes are the first full lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lists {
    /// They are.
    First,
    /// They are what came after, or before the directory could be read.
    #[default]
    Later,
}

/// A statement as it is read from a document.
pub(crate) struct Understood<V: Vocabulary>(pub(crate) Statement<V::Key, V::Fact>);

impl<V: Vocabulary> From<Document> for Understood<V> {
    fn from(document: Document) -> Self {
        Self(V::statement(document))
    }
}

impl<K, F> Changes<K, F> {
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.reports.is_empty() && self.lists == Lists::Later
    }
}

impl<K, F> Default for Changes<K, F> {
    fn default() -> Self {
        Self { objects: Vec::new(), reports: Vec::new(), lists: Lists::Later, received: None }
    }
}

impl Lists {
    /// Whether they are the first.
    pub fn is_first(self) -> bool {
        self == Self::First
    }
}
