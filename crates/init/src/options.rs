//! Options as `getopt_long` reads them; they end at the first word that is none.

use crate::kernel::{Arguments, ERROR};
use crate::text::{Line, bytes};

/// The options of a command line, one after the other. One that is wrong is told on standard error.
pub(crate) struct Options {
    program: &'static [u8],
    words: Arguments,
    /// What is left of a word of several letters.
    letters: &'static [u8],
    short: &'static [u8],
    long: &'static [(&'static [u8], u8)],
}

/// An option by its letter, and its value, empty for one that has none.
pub(crate) type Found = (u8, &'static [u8]);
/// An option that is not among those, or lacks its value, or has one too much.
pub(crate) struct Wrong;

impl Options {
    /// Of `words`, behind the program's name. Short ones as for `getopt`: a colon behind a letter that has a value.
    pub(crate) fn of(
        program: &'static [u8],
        words: Arguments,
        short: &'static [u8],
        long: &'static [(&'static [u8], u8)],
    ) -> Self {
        Self { program, words, letters: b"", short, long }
    }

    /// What is behind the options.
    pub(crate) fn rest(self) -> Arguments {
        self.words
    }

    fn takes_value(&self, letter: u8) -> Option<bool> {
        let at = self.short.iter().position(|known| *known == letter && letter != b':')?;
        Some(self.short.get(at + 1) == Some(&b':'))
    }

    fn of_letter(&mut self, letter: u8) -> Result<Found, Wrong> {
        match self.takes_value(letter) {
            None => Err(self.wrong("invalid option -- '", &[letter], "'")),
            Some(false) => Ok((letter, b"")),
            Some(true) if !self.letters.is_empty() => Ok((letter, core::mem::take(&mut self.letters))),
            Some(true) => match self.words.next() {
                Some(value) => Ok((letter, bytes(value))),
                None => Err(self.wrong("option requires an argument -- '", &[letter], "'")),
            },
        }
    }

    /// A name may be cut as far as it stays the only one.
    fn of_name(&mut self, word: &'static [u8]) -> Result<Found, Wrong> {
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        let (long, word_itself) = (self.long, self.long.iter().find(|(known, _)| *known == name));
        let alike = || long.iter().filter(|(known, _)| known.starts_with(name));
        let letter = match (word_itself, alike().count()) {
            (Some((_, letter)), _) => *letter,
            (None, 0) => return Err(self.wrong("unrecognized option '--", word, "'")),
            (None, 1) => alike().map(|(_, letter)| *letter).next().unwrap_or_default(),
            (None, _) => {
                let mut line = Line::new();
                line.bytes(self.program).text(": option '--").bytes(name);
                line.text("' is ambiguous; possibilities:");
                for (known, _) in alike() {
                    line.text(" '--").bytes(known).text("'");
                }
                line.end(ERROR);
                return Err(Wrong);
            }
        };
        match (self.takes_value(letter), value) {
            (Some(true), Some(value)) => Ok((letter, value)),
            (Some(true), None) => match self.words.next() {
                Some(value) => Ok((letter, bytes(value))),
                None => Err(self.wrong("option '--", name, "' requires an argument")),
            },
            (_, Some(_)) => Err(self.wrong("option '--", name, "' doesn't allow an argument")),
            (_, None) => Ok((letter, b"")),
        }
    }

    fn wrong(&self, what: &str, option: &[u8], end: &str) -> Wrong {
        Line::new().bytes(self.program).text(": ").text(what).bytes(option).text(end).end(ERROR);
        Wrong
    }
}

impl Iterator for Options {
    type Item = Result<Found, Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((letter, rest)) = self.letters.split_first() {
            self.letters = rest;
            return Some(self.of_letter(*letter));
        }
        let before = self.words.clone();
        match bytes(self.words.next()?) {
            b"--" => None,
            [b'-', b'-', name @ ..] if !self.long.is_empty() => Some(self.of_name(name)),
            [b'-', letters @ ..] if !letters.is_empty() => {
                self.letters = letters;
                self.next()
            }
            _ => {
                self.words = before;
                None
            }
        }
    }
}
