//! What all files say together, and what a changed file changes of it.
//!
//! An object belongs to the first file, in byte order of the paths, that defines it. The store keeps what each
//! file last gave, so that a broken file takes nothing away and a second definition can take over.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use crate::documents::Position;
use crate::objects::{About, Claim, Fact, Key, Statement};
use crate::{Batch, Event, Report};

/// The path of a file; it sorts by bytes.
pub(crate) type FileName = Arc<OsStr>;

/// What became of a file.
#[derive(Debug)]
pub(crate) enum FileNews {
    /// It says this.
    Says(Vec<Statement>),
    /// It cannot be understood.
    Broken(Report),
    /// It is no more.
    Gone,
}

/// All files, as each was last understood.
#[derive(Debug)]
pub(crate) struct Store {
    node_name: Arc<str>,
    files: BTreeMap<FileName, File>,
    definers: BTreeSet<(Key, FileName)>,
    duplicates: BTreeMap<Key, Vec<Report>>,
    service_ranges: Vec<IpNet>,
}

#[derive(Debug, Default)]
struct File {
    /// Without a fact it is none of our business.
    objects: BTreeMap<Key, Option<Fact>>,
    reports: Vec<Report>,
}

impl Store {
    /// Nothing known yet. Of all Node objects that of this name counts.
    pub(crate) fn new(node_name: Arc<str>) -> Self {
        Self {
            node_name,
            files: BTreeMap::new(),
            definers: BTreeSet::new(),
            duplicates: BTreeMap::new(),
            service_ranges: Vec::new(),
        }
    }

    /// Takes news in, and tells what they changed.
    pub(crate) fn apply(&mut self, news: BTreeMap<FileName, FileNews>) -> Batch {
        let mut touched = BTreeSet::new();
        let mut reports = Vec::new();
        let files: Vec<_> = news
            .into_iter()
            .map(|(path, news)| {
                let file = self.renewed(&path, news);
                self.difference(&path, file.as_ref(), &mut touched, &mut reports);
                (path, file)
            })
            .collect();
        let before: Vec<_> = touched.iter().map(|key| self.fact(key).cloned()).collect();
        for (path, file) in files {
            self.replace(path, file);
        }
        let mut events = Vec::new();
        for (key, before) in touched.iter().zip(before) {
            self.report_duplicates(key, &mut reports);
            let after = self.fact(key);
            if before.as_ref() != after {
                events.extend(event(key, after));
            }
        }
        events.extend(self.changed_ranges(&touched));
        Batch { events, reports }
    }

    /// A file as it is after the news; none if it is no more.
    fn renewed(&self, path: &FileName, news: FileNews) -> Option<File> {
        let before = self.files.get(path);
        match news {
            FileNews::Gone => None,
            FileNews::Broken(report) => {
                let objects = before.map(|file| file.objects.clone()).unwrap_or_default();
                Some(File { objects, reports: vec![report] })
            }
            FileNews::Says(statements) => {
                let mut file = File::default();
                let mut seen = BTreeSet::new();
                for statement in statements {
                    file.take(statement, Path::new(path), before, &self.node_name, &mut seen);
                }
                Some(file)
            }
        }
    }

    /// What a new version of a file touches, and what it reports that the old one did not.
    fn difference(
        &self,
        path: &FileName,
        after: Option<&File>,
        touched: &mut BTreeSet<Key>,
        reports: &mut Vec<Report>,
    ) {
        let nothing = File::default();
        let before = self.files.get(path).unwrap_or(&nothing);
        let after = after.unwrap_or(&nothing);
        let differing = |(one, other): (&File, &File), touched: &mut BTreeSet<Key>| {
            let changed = one.objects.iter().filter(|(key, fact)| other.objects.get(key) != Some(fact));
            touched.extend(changed.map(|(key, _)| key.clone()));
        };
        differing((before, after), touched);
        differing((after, before), touched);
        reports.extend(after.reports.iter().filter(|report| !before.reports.contains(report)).cloned());
    }

    fn replace(&mut self, path: FileName, file: Option<File>) {
        for key in self.files.remove(&path).into_iter().flat_map(|before| before.objects.into_keys()) {
            self.definers.remove(&(key, path.clone()));
        }
        if let Some(file) = file {
            self.definers.extend(file.objects.keys().map(|key| (key.clone(), path.clone())));
            self.files.insert(path, file);
        }
    }

    /// The files that define an object, the one that counts first.
    fn definers<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a FileName> {
        let first = (key.clone(), FileName::from(OsStr::new("")));
        self.definers.range(first..).take_while(move |(other, _)| other == key).map(|(_, path)| path)
    }

    fn fact(&self, key: &Key) -> Option<&Fact> {
        let path = self.definers(key).next()?;
        self.files.get(path)?.objects.get(key)?.as_ref()
    }

    fn report_duplicates(&mut self, key: &Key, reports: &mut Vec<Report>) {
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

    /// The ranges of all `ServiceCIDR` objects, if one of them was touched and they are others than before.
    fn changed_ranges(&mut self, touched: &BTreeSet<Key>) -> Option<Event> {
        touched.iter().next_back().filter(|key| matches!(key, Key::ServiceCidr(_)))?;
        let keys: BTreeSet<_> = self
            .definers
            .iter()
            .rev()
            .map(|(key, _)| key)
            .take_while(|key| matches!(key, Key::ServiceCidr(_)))
            .collect();
        let ranges: BTreeSet<_> =
            keys.into_iter().filter_map(|key| self.fact(key)).flat_map(ranges).collect();
        let ranges: Vec<_> = ranges.into_iter().collect();
        (std::mem::replace(&mut self.service_ranges, ranges.clone()) != ranges)
            .then_some(Event::ServiceRanges(ranges))
    }
}

impl File {
    /// Takes a statement in. What it refuses stays what the file said before.
    fn take(
        &mut self,
        statement: Statement,
        path: &Path,
        before: Option<&Self>,
        node_name: &str,
        seen: &mut BTreeSet<Key>,
    ) {
        let place = match statement.position {
            Position::Line(line) => format!("{}:{line}", path.display()),
            Position::Item(_) | Position::Unknown => path.display().to_string(),
        };
        if let About::Object(key, claim) = statement.about {
            if matches!(&key, Key::Node(name) if **name != *node_name) {
                return;
            }
            if !seen.insert(key.clone()) {
                let message = format!("{key}: is ignored here, for it is defined earlier in this file");
                return self.reports.push(Report { place, message });
            }
            let old = before.and_then(|file| file.objects.get_key_value(&key));
            match (claim, old) {
                // Of equal values the old one is kept, for others hold it too.
                (Claim::Is(fact), Some((key, Some(old)))) if fact == *old => {
                    self.objects.insert(key.clone(), Some(old.clone()));
                }
                (Claim::Is(fact), _) => {
                    self.objects.insert(key, Some(fact));
                }
                (Claim::NotOurs, _) => {
                    self.objects.insert(key, None);
                }
                (Claim::Refused, Some((key, old))) => {
                    self.objects.insert(key.clone(), old.clone());
                }
                (Claim::Refused, None) => {}
            }
        }
        self.reports.extend(
            statement
                .problems
                .into_iter()
                .map(|problem| Report { place: place.clone(), message: problem.to_string() }),
        );
    }
}

fn event(key: &Key, fact: Option<&Fact>) -> Option<Event> {
    Some(match (key, fact.cloned()) {
        (Key::Service(name), Some(Fact::Service(service))) => Event::Service(name.clone(), Some(service)),
        (Key::Service(name), _) => Event::Service(name.clone(), None),
        (Key::EndpointSlice(name), Some(Fact::EndpointSlice(slice))) => {
            Event::EndpointSlice(name.clone(), Some(slice))
        }
        (Key::EndpointSlice(name), _) => Event::EndpointSlice(name.clone(), None),
        (Key::Node(_), Some(Fact::Node(node))) => Event::Node(Some((*node).clone())),
        (Key::Node(_), _) => Event::Node(None),
        // Told together, after all others.
        (Key::ServiceCidr(_), _) => return None,
    })
}

fn ranges(fact: &Fact) -> Vec<IpNet> {
    match fact {
        Fact::ServiceCidr(ranges) => ranges.to_vec(),
        Fact::Service(_) | Fact::EndpointSlice(_) | Fact::Node(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
