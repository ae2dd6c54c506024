//! Rules about the documents: that they are short, and that they speak of what is there.

use super::Finding;
use super::tree::Tree;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const ARCHITECTURE_LIMIT: usize = 150;
const DECISIONS: &str = "docs/adr/";
const DECISION_LIMIT: usize = 60;

pub(super) fn architecture(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.files.get(ARCHITECTURE) else {
        return vec![Finding::new(ARCHITECTURE, 1, "is not there")];
    };
    let mut findings = Vec::from_iter(too_long(ARCHITECTURE, text, ARCHITECTURE_LIMIT));
    let is_named =
        |name: &str| between(text, "`", "`").any(|(_, word)| word.trim_start_matches("crates/") == name);
    for (room, _) in tree.rooms().filter(|(room, _)| !is_named(&room.name)) {
        findings.push(Finding::new(ARCHITECTURE, 1, format!("does not name the crate `{}`", room.name)));
    }
    for (line, path) in between(text, "`", "`").filter(|(_, word)| is_path(word)) {
        if !leads_somewhere(tree, "", path) {
            findings.push(Finding::new(ARCHITECTURE, line, format!("names `{path}`, which is gone")));
        }
    }
    findings
}

pub(super) fn decisions(tree: &Tree) -> Vec<Finding> {
    let records = tree.files_of("md").filter(|(path, _)| path.starts_with(DECISIONS));
    records.filter_map(|(path, text)| too_long(path, text, DECISION_LIMIT)).collect()
}

pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files_of("md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, link) in between(text, "](", ")") {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !leads_somewhere(tree, folder, target) {
                findings.push(Finding::new(path, line, format!("links to `{target}`, which is gone")));
            }
        }
    }
    findings
}

/// What shows that something easily got wrong is right: scenarios by plain name, tests as `name()`.
pub(super) fn gotchas(tree: &Tree) -> Vec<Finding> {
    const GOTCHAS: &str = "docs/gotchas.md";
    let Some(text) = tree.files.get(GOTCHAS) else { return Vec::new() };
    let is_test = |name: &str| tree.files_of("rs").any(|(_, source)| source.contains(&format!("fn {name}(")));
    let tests = between(text, "`", "()`").filter(|(_, name)| is_plain(name, '_') && !is_test(name));
    let rows = (1..).zip(text.lines()).filter(|(_, line)| line.starts_with("| "));
    let words = rows.flat_map(|(number, line)| {
        let shown_by = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        shown_by.split([',', ';']).map(move |word| (number, word.trim()))
    });
    let is_scenario = |name: &str| tree.paths.contains(&format!("scenarios/{name}"));
    let scenarios = words.filter(|(_, word)| word.contains('-') && is_plain(word, '-') && !is_scenario(word));
    let gone = |(line, name)| Finding::new(GOTCHAS, line, format!("names `{name}`, which is gone"));
    tests.chain(scenarios).map(gone).collect()
}

fn is_plain(word: &str, joint: char) -> bool {
    word.chars().any(char::is_alphabetic)
        && word
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == joint)
}

fn too_long(path: &str, text: &str, limit: usize) -> Option<Finding> {
    let lines = text.lines().count();
    (lines > limit).then(|| Finding::new(path, lines, format!("{lines} lines, above the limit of {limit}")))
}

/// What stands between two marks on one line, outside of drawings.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let mut drawing = false;
    let prose = (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        drawing ^= fence;
        !drawing && !fence
    });
    prose.flat_map(move |(number, line)| {
        let mut rest = line;
        std::iter::from_fn(move || {
            let (_, after) = rest.split_once(open)?;
            let (inside, after) = after.split_once(close)?;
            rest = after;
            Some((number, inside))
        })
    })
}

/// Whether a word in code marks is a path of ours: not absolute, not a name under a domain, not built.
fn is_path(word: &str) -> bool {
    let plain = word.chars().all(|letter| letter.is_alphanumeric() || "./_-*".contains(letter));
    let first = word.split('/').next().unwrap_or_default();
    let under_domain = first.trim_start_matches('.').contains('.');
    let file = [".rs", ".md", ".toml"].iter().any(|end| word.ends_with(end) && word.len() > end.len());
    plain && !first.is_empty() && first != "target" && (file || word.contains('/') && !under_domain)
}

/// Whether a path, seen from a folder, is there; from the first star on, whether anything begins like it.
fn leads_somewhere(tree: &Tree, folder: &str, path: &str) -> bool {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let path = parts.join("/");
    match path.split_once('*') {
        Some((start, _)) => tree.paths.iter().any(|known| known.starts_with(start)),
        None => path.is_empty() || tree.paths.contains(&path),
    }
}
