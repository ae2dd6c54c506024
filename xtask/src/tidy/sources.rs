//! Rules about what a source file may contain, and how it may be called.

use super::Finding;
use super::code::Code;
use super::crates::PURE;
use super::tree::Tree;

/// The rooms that may hold unsafe code.
const UNSAFE_ROOMS: [&str; 3] = ["kernel-io", "pause", "init"];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "types", "manager", "managers"];

/// Files of `proxy-modes` that belong to no mode.
const NO_MODES: [&str; 2] = ["lib", "names"];

/// A file longer than this begins with `LONG_REASON`.
const LONG: usize = 500;
const LONG_REASON: &str = "//! Long because ";

pub(super) fn pure_rooms(tree: &Tree) -> Vec<Finding> {
    let pure = |path: &str| {
        PURE.iter().chain(&["manifest-documents", "pod-manifests"]).any(|room| is_in(path, room))
            && !is_test(path)
    };
    in_sources(tree, pure, |code| {
        let acts = code.words().filter(|(_, word)| {
            ["Instant", "SystemTime", "TcpListener", "TcpStream", "UdpSocket", "UnixStream", "UnixListener"]
                .contains(word)
        });
        let named =
            lines_with(&code.without_literals, &["std::fs", "std::env", "std::process", "fs::", "env::"]);
        acts.chain(named).map(|(line, what)| (line, format!("`{what}` in a pure room"))).collect()
    })
}

pub(super) fn modes_apart(tree: &Tree) -> Vec<Finding> {
    let modes: Vec<&str> = tree.files.keys().filter_map(|path| mode_of(path)).collect();
    let mut findings = Vec::new();
    for (path, code) in tree.sources() {
        let Some(own) = mode_of(path) else { continue };
        for other in modes.iter().filter(|mode| **mode != own) {
            let ways = [format!("crate::{other}::"), format!("super::{other}::")];
            let ways = ways.each_ref().map(String::as_str);
            let seen = lines_with(&code.without_literals, &ways).next();
            findings.extend(seen.map(|(line, way)| {
                Finding::new(
                    path,
                    line,
                    format!("`{way}`: no mode depends on another; a shared decision goes into the plan"),
                )
            }));
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

pub(super) fn kubernetes_at_the_edge(tree: &Tree) -> Vec<Finding> {
    in_sources(
        tree,
        |_| true,
        |code| {
            let exported = lines_with(&code.without_literals, &["pub use k8s_openapi", "pub use kube"]);
            exported
                .map(|(line, what)| (line, format!("`{what}` lets Kubernetes types out of the edge")))
                .collect()
        },
    )
}

pub(super) fn unsafe_rooms(tree: &Tree) -> Vec<Finding> {
    let elsewhere = |path: &str| !UNSAFE_ROOMS.iter().any(|room| is_in(path, room));
    in_sources(tree, elsewhere, |code| {
        let found = code.words().filter(|(_, word)| *word == "unsafe");
        found.map(|(line, _)| (line, "`unsafe`: only kernel-io, pause and init may".to_owned())).collect()
    })
}

pub(super) fn kernel_door(tree: &Tree) -> Vec<Finding> {
    let outside = |path: &str| {
        !["kernel-io", "testkit"].iter().any(|room| is_in(path, room))
            && !path.starts_with("xtask/")
            && !is_test(path)
    };
    in_sources(tree, outside, |code| {
        let calls = code.words().filter(|(_, word)| {
            word.starts_with("NETLINK")
                || [
                    "AF_NETLINK",
                    "setns",
                    "unshare",
                    "move_into_link_name_space",
                    "move_into_thread_name_spaces",
                ]
                .contains(word)
        });
        let tools = lines_with(
            &code.without_comments,
            &[
                "Command::new(\"conntrack",
                "Command::new(\"ebtables",
                "Command::new(\"ip",
                "Command::new(\"nft",
                "Command::new(\"nsenter",
                "Command::new(\"tc\"",
                "Command::new(\"unshare",
            ],
        );
        let found = calls.chain(tools);
        found
            .map(|(line, what)| (line, format!("`{what}`: kernel-io is the only door to the kernel")))
            .collect()
    })
}

pub(super) fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (room, manifest) in tree.rooms().filter(|(room, _)| is_empty_name(&room.name)) {
        findings.push(Finding::new(manifest, 1, format!("the name `{}` says nothing", room.name)));
    }
    for (path, code) in tree.sources() {
        let mut segments = path.trim_end_matches(".rs").split('/');
        if let Some(segment) = segments.find(|segment| is_empty_name(segment)) {
            findings.push(Finding::new(path, 1, format!("the name `{segment}` says nothing")));
        }
        let words: Vec<(usize, &str)> = code.words().collect();
        for pair in words.windows(2) {
            let [(_, kind), (line, name)] = pair else { continue };
            if ["mod", "struct", "enum", "trait", "union"].contains(kind) && is_empty_name(name) {
                findings.push(Finding::new(path, *line, format!("the name `{name}` says nothing")));
            }
        }
    }
    findings
}

pub(super) fn module_files(tree: &Tree) -> Vec<Finding> {
    let files = tree.files.keys().filter(|path| path.ends_with("/mod.rs"));
    files.map(|path| Finding::new(path, 1, "a module is foo.rs, not foo/mod.rs")).collect()
}

pub(super) fn long_files(tree: &Tree) -> Vec<Finding> {
    let files = tree.files_of("rs").filter(|(path, _)| !is_test(path));
    let long = files.filter(|(_, text)| {
        text.lines().count() > LONG && !text.lines().any(|line| line.starts_with(LONG_REASON))
    });
    long.map(|(path, text)| {
        let lines = text.lines().count();
        Finding::new(path, lines, format!("{lines} lines; above {LONG} a line `{LONG_REASON}…` says why"))
    })
    .collect()
}

/// What a look at each file's code finds, in the files of a kind.
fn in_sources(
    tree: &Tree,
    kind: impl Fn(&str) -> bool,
    look: impl Fn(&Code) -> Vec<(usize, String)>,
) -> Vec<Finding> {
    let files = tree.sources().filter(|(path, _)| kind(path));
    files
        .flat_map(|(path, code)| {
            look(&code).into_iter().map(move |(line, what)| Finding::new(path, line, what))
        })
        .collect()
}

/// The lines that contain one of the texts where a word begins, each with the first such text.
fn lines_with<'a>(code: &str, texts: &[&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    let begins = |line: &str, at: usize| {
        !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
    };
    let found = code.lines().enumerate().filter_map(move |(index, line)| {
        let text = texts.iter().find(|text| line.match_indices(**text).any(|(at, _)| begins(line, at)))?;
        Some((index + 1, *text))
    });
    found.collect::<Vec<_>>().into_iter()
}

fn is_in(path: &str, room: &str) -> bool {
    path.strip_prefix("crates/")
        .and_then(|path| path.strip_prefix(room))
        .is_some_and(|path| path.starts_with('/'))
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The mode that a file of `proxy-modes` belongs to.
fn mode_of(path: &str) -> Option<&str> {
    let file = path.strip_prefix("crates/proxy-modes/src/")?;
    let mode = file.split('/').next()?.trim_end_matches(".rs");
    (!NO_MODES.contains(&mode)).then_some(mode)
}

/// Whether one word of a name, in snake or camel case, says nothing.
fn is_empty_name(name: &str) -> bool {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter.is_uppercase() || letter == '_' || letter == '-' {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
    }
    words.iter().any(|word| EMPTY_NAMES.contains(&word.as_str()))
}
