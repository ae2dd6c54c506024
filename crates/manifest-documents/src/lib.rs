//! Manifests, from text to the objects in them, and what is found wrong with an object. Pure; it knows no kind.

mod documents;
mod findings;

pub use documents::{Chunk, Document, Position, Syntax, SyntaxError, chunks, read};
pub use findings::{FieldError, Findings};
