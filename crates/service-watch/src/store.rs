//! What all files say together, and what a changed file changes of it.
//!
//! An object belongs to the first file, in byte order of the paths, that defines it. The store keeps what each
//! file last gave, so that a broken file takes nothing away and a second definition can take over.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::Report;
use crate::vocabulary::{About, Changes, Claim, Lists, Statement, Vocabulary};
use manifest_documents::Position;

/// The path of a file; it sorts by bytes.
pub(crate) type FileName = Arc<OsStr>;

/// What became of a file.
#[derive(Debug)]
pub(crate) enum FileNews<K, F> {
    /// It says this, part by part.
    Says(Vec<Part<K, F>>),
    /// It cannot be understood.
    Broken(Report),
    /// It is no more.
    Gone,
}

/// A part of a file, and a hash of its text.
#[derive(Debug)]
pub(crate) struct Part<K, F> {
    pub(crate) hash: u64,
    pub(crate) position: Position,
    pub(crate) said: Said<K, F>,
}

/// What a part of a file says.
#[derive(Debug)]
pub(crate) enum Said<K, F> {
    /// What it said before, of these objects.
    Same(Vec<K>),
    /// This.
    New(Vec<Statement<K, F>>),
}

/// All files, as each was last understood.
#[derive(Debug)]
pub(crate) struct Store<K, F> {
    files: BTreeMap<FileName, File<K, F>>,
    definers: BTreeSet<(K, FileName)>,
    duplicates: BTreeMap<K, Vec<Report>>,
}

#[derive(Debug)]
struct File<K, F> {
    objects: BTreeMap<K, Object<F>>,
    reports: Vec<Report>,
}

#[derive(Clone, Debug)]
struct Object<F> {
    /// Without a fact it is none of our business.
    fact: Option<F>,
    /// The hash of the part of the file that defines it, unless something is wrong there.
    part: Option<u64>,
}

impl<K: Clone + Ord + fmt::Display, F: Clone + PartialEq> Store<K, F> {
    /// Nothing known yet.
    pub(crate) fn new() -> Self {
        Self { files: BTreeMap::new(), definers: BTreeSet::new(), duplicates: BTreeMap::new() }
    }

    /// The parts of a file that need not be understood again, by their hashes, and what they speak of.
    pub(crate) fn parts(&self, path: &FileName) -> BTreeMap<u64, Vec<K>> {
        let mut parts = BTreeMap::<_, Vec<_>>::new();
        for (key, object) in self.files.get(path).into_iter().flat_map(|file| &file.objects) {
            if let Some(part) = object.part {
                parts.entry(part).or_default().push(key.clone());
            }
        }
        parts
    }

    /// Takes news in, and tells what they changed.
    pub(crate) fn apply<V>(&mut self, news: BTreeMap<FileName, FileNews<K, F>>, words: &V) -> Changes<K, F>
    where
        V: Vocabulary<Key = K, Fact = F>,
    {
        let mut touched = BTreeSet::new();
        let mut reports = Vec::new();
        let mut files = Vec::new();
        for (path, news) in news {
            let file = self.renewed(&path, news, words);
            let nothing = File::default();
            let (before, after) =
                (self.files.get(&path).unwrap_or(&nothing), file.as_ref().unwrap_or(&nothing));
            let differing: Vec<_> = differing(&before.objects, &after.objects).cloned().collect();
            touched.extend(differing.iter().cloned());
            reports.extend(after.reports.iter().filter(|report| !before.reports.contains(report)).cloned());
            files.push((path, file, differing));
        }
        let before: Vec<_> = touched.iter().map(|key| self.fact(key).cloned()).collect();
        for (path, file, differing) in files {
            self.replace(path, file, differing);
        }
        let mut objects = Vec::new();
        for (key, before) in touched.into_iter().zip(before) {
            self.report_duplicates(&key, &mut reports);
            let after = self.fact(&key);
            if before.as_ref() != after {
                let after = after.cloned();
                objects.push((key, after));
            }
        }
        Changes { objects, reports, lists: Lists::Later, received: None }
    }

    /// A file as it is after the news; none if it is no more.
    fn renewed<V>(&self, path: &FileName, news: FileNews<K, F>, words: &V) -> Option<File<K, F>>
    where
        V: Vocabulary<Key = K, Fact = F>,
    {
        let before = self.files.get(path);
        match news {
            FileNews::Gone => None,
            FileNews::Broken(report) => {
                let objects = before.map(|file| file.objects.clone()).unwrap_or_default();
                Some(File { objects, reports: vec![report] })
            }
            FileNews::Says(parts) => {
                let mut reading = Reading {
                    path: Path::new(path),
                    words,
                    before,
                    file: File::default(),
                    refused: BTreeSet::new(),
                };
                for part in parts {
                    reading.take(part);
                }
                Some(reading.file)
            }
        }
    }

    /// Takes a file in place of its older version, from which it differs in these objects.
    fn replace(&mut self, path: FileName, file: Option<File<K, F>>, differing: Vec<K>) {
        for key in differing {
            if file.as_ref().is_some_and(|file| file.objects.contains_key(&key)) {
                self.definers.insert((key, path.clone()));
            } else {
                self.definers.remove(&(key, path.clone()));
            }
        }
        match file {
            Some(file) => self.files.insert(path, file),
            None => self.files.remove(&path),
        };
    }

    /// The files that define an object, the one that counts first.
    fn definers<'a>(&'a self, key: &'a K) -> impl Iterator<Item = &'a FileName> {
        let first = (key.clone(), FileName::from(OsStr::new("")));
        self.definers.range(first..).take_while(move |(other, _)| other == key).map(|(_, path)| path)
    }

    fn fact(&self, key: &K) -> Option<&F> {
        let path = self.definers(key).next()?;
        self.files.get(path)?.objects.get(key)?.fact.as_ref()
    }

    fn report_duplicates(&mut self, key: &K, reports: &mut Vec<Report>) {
        let mut paths = self.definers(key).map(|path| Path::new(path).display().to_string());
        let first = paths.next().unwrap_or_default();
        let duplicates: Vec<_> = paths
            .map(|place| Report { place, message: format!("{key}: is ignored here, for {first} defines it") })
            .collect();
        let before = if duplicates.is_empty() {
            self.duplicates.remove(key)
        } else {
            self.duplicates.insert(key.clone(), duplicates.clone())
        };
        let before = before.unwrap_or_default();
        reports.extend(duplicates.into_iter().filter(|report| !before.contains(report)));
    }
}

/// A file that is being taken in.
struct Reading<'a, V: Vocabulary> {
    path: &'a Path,
    words: &'a V,
    before: Option<&'a File<V::Key, V::Fact>>,
    file: File<V::Key, V::Fact>,
    /// Defined, but never well.
    refused: BTreeSet<V::Key>,
}

impl<V: Vocabulary> Reading<'_, V> {
    fn take(&mut self, part: Part<V::Key, V::Fact>) {
        let reports = self.file.reports.len();
        let keys = match part.said {
            Said::Same(keys) => keys
                .into_iter()
                .filter_map(|key| self.take_claim(key, Claim::Refused, part.position))
                .collect(),
            Said::New(statements) => statements
                .into_iter()
                .filter_map(|statement| self.take_statement(statement))
                .collect::<Vec<_>>(),
        };
        let clean = self.file.reports.len() == reports;
        for key in keys {
            if let Some(object) = self.file.objects.get_mut(&key) {
                object.part = clean.then_some(part.hash);
            }
        }
    }

    fn take_statement(&mut self, statement: Statement<V::Key, V::Fact>) -> Option<V::Key> {
        let Statement { position, about, problems } = statement;
        let key = match about {
            About::Object(key, _) if !self.words.concerns(&key) => return None,
            About::Object(key, claim) => self.take_claim(key, claim, position),
            About::Nothing => None,
        };
        for problem in problems {
            self.report(position, problem.to_string());
        }
        key
    }

    /// What a claim refuses stays what the file said before. Answers the object, unless there is none.
    fn take_claim(&mut self, key: V::Key, claim: Claim<V::Fact>, position: Position) -> Option<V::Key> {
        if self.file.objects.contains_key(&key) || self.refused.contains(&key) {
            self.report(position, format!("{key}: is ignored here, for it is defined earlier in this file"));
            return None;
        }
        let before = self.before.and_then(|file| file.objects.get(&key));
        let fact = match (claim, before) {
            (Claim::Refused, None) => {
                self.refused.insert(key);
                return None;
            }
            (Claim::Refused, Some(before)) => before.fact.clone(),
            // Of equal values the old one is kept, for others hold it too.
            (Claim::Is(fact), Some(Object { fact: Some(before), .. })) if fact == *before => {
                Some(before.clone())
            }
            (Claim::Is(fact), _) => Some(fact),
            (Claim::NotOurs, _) => None,
        };
        self.file.objects.insert(key.clone(), Object { fact, part: None });
        Some(key)
    }

    fn report(&mut self, position: Position, message: String) {
        let path = self.path.display();
        let place = match position {
            Position::Line(line) => format!("{path}:{line}"),
            Position::Item(_) | Position::Unknown => path.to_string(),
        };
        self.file.reports.push(Report { place, message });
    }
}

/// The objects that are not the same in two versions of a file, in one walk along both.
fn differing<'a, K: Ord, F: PartialEq>(
    before: &'a BTreeMap<K, Object<F>>,
    after: &'a BTreeMap<K, Object<F>>,
) -> impl Iterator<Item = &'a K> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (before.peek(), after.peek()) {
                (Some((one, _)), Some((other, _))) => one.cmp(other),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            let (key, same) = match order {
                Ordering::Less => (before.next()?.0, false),
                Ordering::Greater => (after.next()?.0, false),
                Ordering::Equal => {
                    let ((key, before), (_, after)) = (before.next()?, after.next()?);
                    (key, before.fact == after.fact)
                }
            };
            if !same {
                return Some(key);
            }
        }
    })
}

impl<K, F> Default for File<K, F> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), reports: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
