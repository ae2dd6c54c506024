//! Rules about who may depend on whom: a table, and two ways to read it.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::{Package, Tree, When};

/// The rooms that only compute.
pub(super) const PURE: [&str; 4] = ["service-plan", "kernel-state", "proxy-modes", "packet-trace"];

/// What one room never depends on. A star stands for any ending, or for any beginning.
struct Never {
    rooms: &'static [&'static str],
    depend_on: &'static [&'static str],
    why: &'static str,
}

/// Never by any path: a room in between does not make it better.
const THROUGH: [Never; 5] = [
    Never {
        rooms: &PURE,
        depend_on: &["tokio*", "kube", "kube-*", "k8s-openapi", "tracing*"],
        why: "a pure room has no runtime, no Kubernetes and no log",
    },
    Never {
        rooms: &PURE,
        depend_on: &[
            "kernel-io",
            "service-watch",
            "proxy",
            "pod-sandbox",
            "pod-images",
            "pod-runtime",
            "up",
            "fairlead",
        ],
        why: "a pure room does not act",
    },
    Never {
        rooms: &["kernel-state", "kernel-io"],
        depend_on: &["service-*", "proxy*"],
        why: "the kernel's side does not know what a Service is",
    },
    Never {
        rooms: &["pod-*"],
        depend_on: &["service-*", "proxy*", "up"],
        why: "pods and proxy meet in `up` alone",
    },
    Never {
        rooms: &["service-*", "proxy*"],
        depend_on: &["pod-*", "up"],
        why: "pods and proxy meet in `up` alone",
    },
];

/// Never by its own manifest: what a stranger needs inside is the stranger's business.
const DIRECTLY: [Never; 2] = [
    Never {
        rooms: &PURE,
        depend_on: &["libc", "rustix", "nix", "socket2", "mio"],
        why: "a pure room makes no system call",
    },
    Never { rooms: &["pause", "init"], depend_on: &["*"], why: "between it and the kernel there is nobody" },
];

/// Where some packages are let in, and nowhere else.
struct Door {
    packages: &'static [&'static str],
    rooms: &'static [&'static str],
    why: &'static str,
}

const DOORS: [Door; 2] = [
    Door {
        packages: &["kube", "kube-*", "k8s-openapi"],
        rooms: &["service-watch", "pod-manifests"],
        why: "Kubernetes types are converted at the edge",
    },
    Door {
        packages: &["netlink-*", "rtnetlink", "genetlink", "neli", "nftables", "rustables", "*nftnl*"],
        rooms: &["kernel-io"],
        why: "kernel-io is the only door to the kernel",
    },
];

pub(super) fn pure_rooms(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (room, manifest) in tree.rooms() {
        for never in THROUGH.iter().filter(|never| matches_any(never.rooms, &room.name)) {
            findings.extend(reached(tree, room).into_iter().filter(|path| forbids(never, path)).map(
                |path| {
                    at(
                        tree,
                        manifest,
                        path[0],
                        format!("{} → {}: {}", room.name, path.join(" → "), never.why),
                    )
                },
            ));
        }
        for never in DIRECTLY.iter().filter(|never| matches_any(never.rooms, &room.name)) {
            let needed = needed(tree, room, When::Shipped).filter(|name| matches_any(never.depend_on, name));
            findings.extend(
                needed.map(|name| at(tree, manifest, name, format!("{} → {name}: {}", room.name, never.why))),
            );
        }
    }
    findings
}

pub(super) fn doors(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (room, manifest) in tree.rooms() {
        for door in DOORS.iter().filter(|door| !matches_any(door.rooms, &room.name)) {
            let needed = needed(tree, room, When::Shipped).chain(needed(tree, room, When::Tested));
            let strangers = needed.filter(|name| matches_any(door.packages, name));
            findings.extend(
                strangers
                    .map(|name| at(tree, manifest, name, format!("{} → {name}: {}", room.name, door.why))),
            );
        }
    }
    findings
}

pub(super) fn test_kit(tree: &Tree) -> Vec<Finding> {
    let shipped =
        tree.rooms().filter(|(room, _)| needed(tree, room, When::Shipped).any(|name| name == "testkit"));
    shipped
        .map(|(room, manifest)| {
            at(tree, manifest, "testkit", format!("{} → testkit: a dev-dependency only", room.name))
        })
        .collect()
}

/// The names of the packages that a room's own manifest names.
fn needed<'a>(tree: &'a Tree, room: &'a Package, when: When) -> impl Iterator<Item = &'a str> {
    let needs = room.needs.iter().filter(move |need| need.when == when);
    needs.filter_map(|need| tree.packages.get(&need.package)).map(|package| package.name.as_str())
}

/// Everything that ships with a room, each by the shortest path of names that leads there.
fn reached<'a>(tree: &'a Tree, room: &'a Package) -> Vec<Vec<&'a str>> {
    let mut paths: Vec<Vec<&str>> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![(room, Vec::new())];
    while !open.is_empty() {
        let mut next = Vec::new();
        for (package, path) in open {
            let shipped = package.needs.iter().filter(|need| need.when == When::Shipped);
            for need in shipped.filter(|need| seen.insert(&need.package)) {
                let Some(found) = tree.packages.get(&need.package) else { continue };
                let path = [path.as_slice(), &[found.name.as_str()]].concat();
                next.push((found, path.clone()));
                paths.push(path);
            }
        }
        open = next;
    }
    paths
}

/// Whether a path ends where it never may, and did not pass such a place before: one finding a cause.
fn forbids(never: &Never, path: &[&str]) -> bool {
    path.split_last().is_some_and(|(last, before)| {
        matches_any(never.depend_on, last) && !before.iter().any(|name| matches_any(never.depend_on, name))
    })
}

fn matches_any(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
        (None, Some(start)) => name.starts_with(start),
        (Some(end), None) => name.ends_with(end),
        (None, None) => name == *pattern,
    })
}

/// At the line of the manifest that names the dependency.
fn at(tree: &Tree, manifest: &str, dependency: &str, what: String) -> Finding {
    let names_it = |line: &str| {
        let rest = line.trim_start().strip_prefix(dependency);
        rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    let text = tree.files.get(manifest).map_or("", String::as_str);
    let line = text.lines().position(names_it).map_or(1, |index| index + 1);
    Finding::new(manifest, line, what)
}
