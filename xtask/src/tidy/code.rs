//! A Rust file without what is not code, every line in its place.

/// Comments and the contents of literals become spaces, so that lines keep their numbers.
pub(super) struct Code {
    pub(super) without_comments: String,
    pub(super) without_literals: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    Comment,
    Literal,
}

impl Code {
    pub(super) fn of(text: &str) -> Self {
        let mut code = Self { without_comments: String::new(), without_literals: String::new() };
        let mut rest = text;
        let mut before = ' ';
        while !rest.is_empty() {
            let (part, length) = next_part(rest, before);
            let (taken, left) = rest.split_at(length);
            code.take(part, taken);
            before = taken.chars().next_back().unwrap_or(before);
            rest = left;
        }
        code
    }

    /// The words of the code alone, each with its line.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.without_literals.lines());
        lines.flat_map(|(number, line)| {
            let words = line.split(|letter| !in_word(letter)).filter(|word| !word.is_empty());
            words.map(move |word| (number, word))
        })
    }

    fn take(&mut self, part: Part, taken: &str) {
        let blank = || taken.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' });
        match part {
            Part::Code => {
                self.without_comments.push_str(taken);
                self.without_literals.push_str(taken);
            }
            Part::Literal => {
                self.without_comments.push_str(taken);
                self.without_literals.extend(blank());
            }
            Part::Comment => {
                self.without_comments.extend(blank());
                self.without_literals.extend(blank());
            }
        }
    }
}

/// What the text begins with, and how many bytes of it; `before` is the letter before it.
fn next_part(text: &str, before: char) -> (Part, usize) {
    let first = text.chars().next().unwrap_or(' ');
    if text.starts_with("//") {
        return (Part::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Part::Comment, block_comment(text));
    }
    if first == '"' {
        return (Part::Literal, quoted(text, '"'));
    }
    if first == 'r'
        && (!in_word(before) || before == 'b' || before == 'c')
        && let Some(length) = raw_string(text)
    {
        return (Part::Literal, length);
    }
    if first == '\'' && is_letter_literal(text) {
        return (Part::Literal, quoted(text, '\''));
    }
    (Part::Code, first.len_utf8())
}

/// Comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn quoted(text: &str, quote: char) -> usize {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return at + 1;
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#` and so on; `r#name` is none.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|letter| *letter == '#').count();
    let inside = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(1 + hashes + 1 + length)
}

/// `'a'` and `'\n'` are letters, `'a` is a lifetime.
fn is_letter_literal(text: &str) -> bool {
    let mut letters = text.chars().skip(1);
    letters.next() == Some('\\') || letters.next() == Some('\'')
}

fn in_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}
