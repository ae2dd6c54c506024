//! Each rule sees an input that breaks it, and one close by that does not.

use super::tree::{Need, Package, Tree, When};
use super::{RULES, too_large};

/// One row: a rule, what it is shown, what it finds.
struct Row {
    rule: &'static str,
    shown: Tree,
    found: &'static [&'static str],
}

#[test]
fn every_rule_finds_what_breaks_it() {
    let rows = rows();
    for row in &rows {
        let (_, rule) = RULES.iter().find(|(name, _)| *name == row.rule).expect(row.rule);
        let mut found: Vec<String> = rule(&row.shown).iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!(found, row.found, "{}", row.rule);
    }
    let tested: Vec<&str> = rows.iter().map(|row| row.rule).collect();
    let untested: Vec<&str> =
        RULES.iter().map(|(name, _)| *name).filter(|name| !tested.contains(name)).collect();
    assert!(untested.is_empty(), "without a row: {untested:?}");
}

#[test]
fn pause_fits_a_page() {
    assert_eq!(too_large(4096), None);
    let found = too_large(4097).expect("it is too large").to_string();
    assert_eq!(found, "target/dist/pause:1: 4097 bytes, above the limit of 4096");
}

fn rows() -> Vec<Row> {
    let mut rows = crate_rows();
    rows.extend(source_rows());
    rows.extend(document_rows());
    rows.extend(gotcha_rows());
    rows
}

fn crate_rows() -> Vec<Row> {
    let row = |rule, shown, found| Row { rule, shown, found };
    vec![
        row(
            "pure rooms depend on nothing that acts",
            house(
                "service-plan → ipnet, service-plan → libc, ipnet → tokio, tokio → tracing, proxy-modes → kernel-io, \
                 kernel-state ⇢ tokio, kernel-io → libc, pause → libc",
                &[(
                    "crates/service-plan/Cargo.toml",
                    "[dependencies]\nipnet = \"2\"\nlibc.workspace = true\n",
                )],
            ),
            &[
                "crates/pause/Cargo.toml:1: pause → libc: between it and the kernel there is nobody",
                "crates/proxy-modes/Cargo.toml:1: proxy-modes → kernel-io: a pure room does not act",
                "crates/service-plan/Cargo.toml:2: service-plan → ipnet → tokio: a pure room has no runtime, no \
                 Kubernetes and no log",
                "crates/service-plan/Cargo.toml:3: service-plan → libc: a pure room makes no system call",
            ],
        ),
        row(
            "pure rooms depend on nothing that acts",
            house(
                "kernel-state → service-plan, pod-sandbox → kernel-io, pod-sandbox → names, names → proxy-modes, \
                 service-watch → pod-manifests, up → proxy, up → pod-sandbox",
                &[],
            ),
            &[
                "crates/kernel-state/Cargo.toml:1: kernel-state → service-plan: the kernel's side does not know what a \
                 Service is",
                "crates/pod-sandbox/Cargo.toml:1: pod-sandbox → names → proxy-modes: pods and proxy meet in `up` alone",
                "crates/service-watch/Cargo.toml:1: service-watch → pod-manifests: pods and proxy meet in `up` alone",
            ],
        ),
        row(
            "a room stays behind its door",
            house(
                "service-watch → kube, proxy → kube-client, testkit ⇢ k8s-openapi, kernel-io → netlink-sys, \
                 pod-sandbox → netlink-sys, proxy → kubelike",
                &[],
            ),
            &[
                "crates/pod-sandbox/Cargo.toml:1: pod-sandbox → netlink-sys: kernel-io is the only door to the kernel",
                "crates/proxy/Cargo.toml:1: proxy → kube-client: Kubernetes types are converted at the edge",
                "crates/testkit/Cargo.toml:1: testkit → k8s-openapi: Kubernetes types are converted at the edge",
            ],
        ),
        row(
            "the test kit stays out of programs",
            house("proxy ⇢ testkit, fairlead → testkit", &[]),
            &["crates/fairlead/Cargo.toml:1: fairlead → testkit: a dev-dependency only"],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn source_rows() -> Vec<Row> {
    let row = |rule, files: &[(&str, &str)], found| Row { rule, shown: house("", files), found };
    let long = "\n".repeat(501);
    let excused = format!("//! Long because the kernel says so.\n{long}");
    vec![
        row(
            "pure rooms see no clock, file, environment or socket",
            &[
                (
                    "crates/service-plan/src/plan.rs",
                    "// std::fs, Instant\nuse std::time::{Duration, Instant};\n",
                ),
                (
                    "crates/proxy-modes/src/nftables.rs",
                    "let page = my_fs::read();\nlet text = fs::read(path);\n",
                ),
                ("crates/kernel-state/src/nft/tests.rs", "use std::fs;\n"),
                ("crates/proxy/src/lib.rs", "use std::fs;\n"),
            ],
            &[
                "crates/proxy-modes/src/nftables.rs:2: `fs::` in a pure room",
                "crates/service-plan/src/plan.rs:2: `Instant` in a pure room",
            ],
        ),
        row(
            "modes know nothing of one another",
            &[
                ("crates/proxy-modes/src/ipvs.rs", "use crate::names::chain;\nuse crate::iptables::jump;\n"),
                ("crates/proxy-modes/src/iptables.rs", "use kernel_state::xtables::Rule;\n"),
                ("crates/proxy-modes/src/iptables/rules.rs", "use crate::iptables::jump;\n"),
                ("crates/proxy-modes/src/lib.rs", "pub use crate::iptables::Iptables;\n"),
            ],
            &[
                "crates/proxy-modes/src/ipvs.rs:2: `crate::iptables::`: no mode depends on another; a shared decision goes \
               into the plan",
            ],
        ),
        row(
            "Kubernetes types stay at the edge",
            &[(
                "crates/service-watch/src/lib.rs",
                "use k8s_openapi::api;\npub use k8s_openapi::api::core::v1::Service;\n",
            )],
            &[
                "crates/service-watch/src/lib.rs:2: `pub use k8s_openapi` lets Kubernetes types out of the edge",
            ],
        ),
        row(
            "unsafe has three rooms",
            &[
                ("crates/kernel-io/src/lib.rs", "unsafe { call() }\n"),
                (
                    "crates/kernel-io-extra/src/lib.rs",
                    "let text = \"unsafe\"; // unsafe\n\nunsafe { call() }\n",
                ),
                (
                    "xtask/src/main.rs",
                    "#![forbid(unsafe_code)]\n/* unsafe /* unsafe */ unsafe */ fn f() {}\n",
                ),
                ("crates/proxy/tests/it.rs", "let (a, b) = ('\"', r#\"unsafe \" unsafe\"#);\nunsafe { a }\n"),
            ],
            &[
                "crates/kernel-io-extra/src/lib.rs:3: `unsafe`: only kernel-io, pause and init may",
                "crates/proxy/tests/it.rs:2: `unsafe`: only kernel-io, pause and init may",
            ],
        ),
        row(
            "the kernel has one door",
            &[
                ("crates/kernel-io/src/xtables.rs", "Command::new(\"iptables-restore\")\n"),
                ("crates/proxy/src/lib.rs", "// Command::new(\"nft\")\nCommand::new(\"iptables-restore\")\n"),
                ("crates/pod-sandbox/src/lib.rs", "fn enter(netns: &Netns) {\n    setns(netns);\n}\n"),
                ("crates/proxy/tests/cleanup.rs", "Command::new(\"iptables-save\")\n"),
            ],
            &[
                "crates/pod-sandbox/src/lib.rs:2: `setns`: kernel-io is the only door to the kernel",
                "crates/proxy/src/lib.rs:2: `Command::new(\"ip`: kernel-io is the only door to the kernel",
            ],
        ),
        row(
            "names say what is inside",
            &[
                ("crates/proxy/src/pod_utils.rs", ""),
                ("crates/proxy/src/lib.rs", "struct Typesetter;\n\nstruct RuleManager;\nmod helpers {}\n"),
            ],
            &[
                "crates/proxy/src/lib.rs:3: the name `RuleManager` says nothing",
                "crates/proxy/src/lib.rs:4: the name `helpers` says nothing",
                "crates/proxy/src/pod_utils.rs:1: the name `pod_utils` says nothing",
            ],
        ),
        row(
            "names say what is inside",
            &[("crates/proxy-common/Cargo.toml", "")],
            &["crates/proxy-common/Cargo.toml:1: the name `proxy-common` says nothing"],
        ),
        row(
            "a module is foo.rs",
            &[("crates/proxy/src/relay/mod.rs", ""), ("crates/proxy/src/relay.rs", "")],
            &["crates/proxy/src/relay/mod.rs:1: a module is foo.rs, not foo/mod.rs"],
        ),
        row(
            "a long file has a reason",
            &[
                ("crates/proxy/src/relay.rs", &long),
                ("crates/proxy/src/health.rs", &excused),
                ("crates/proxy/src/relay/tests.rs", &long),
                ("crates/proxy/src/lib.rs", &long[1..]),
            ],
            &["crates/proxy/src/relay.rs:501: 501 lines; above 500 a line `//! Long because …` says why"],
        ),
    ]
}

fn document_rows() -> Vec<Row> {
    let row = |rule, needs, files: &[(&str, &str)], found| Row { rule, shown: house(needs, files), found };
    let true_names = "| `proxy` | `crates/proxy/src/lib.rs` `crates/pro*` `fairlead.dev/weights` `/etc/x` `target/dist/x` |\n";
    let gone =
        "the proxy, `proxy-modes`\n```\n`crates/gone.rs`\n```\nsee `crates/proxy/src/gone.rs`, `gone.md`\n";
    let (page, record) = ("\n".repeat(151), "\n".repeat(61));
    vec![
        row("ARCHITECTURE.md is one page and true", "", &[], &["ARCHITECTURE.md:1: is not there"]),
        row(
            "ARCHITECTURE.md is one page and true",
            "",
            &[("ARCHITECTURE.md", &page)],
            &["ARCHITECTURE.md:151: 151 lines, above the limit of 150"],
        ),
        row(
            "ARCHITECTURE.md is one page and true",
            "proxy → proxy-modes",
            &[("ARCHITECTURE.md", gone), ("crates/proxy/src/lib.rs", "")],
            &[
                "ARCHITECTURE.md:1: does not name the crate `proxy`",
                "ARCHITECTURE.md:5: names `crates/proxy/src/gone.rs`, which is gone",
                "ARCHITECTURE.md:5: names `gone.md`, which is gone",
            ],
        ),
        row(
            "ARCHITECTURE.md is one page and true",
            "proxy → ",
            &[("ARCHITECTURE.md", true_names), ("crates/proxy/src/lib.rs", "")],
            &[],
        ),
        row(
            "a decision record is short",
            "",
            &[
                ("docs/adr/0001-long.md", &record),
                ("docs/adr/0002-short.md", &record[1..]),
                ("docs/style.md", &record),
            ],
            &["docs/adr/0001-long.md:61: 61 lines, above the limit of 60"],
        ),
        row(
            "links lead somewhere",
            "",
            &[
                ("README.md", "[a](docs/style.md#names) [b](https://x.y/z) [c](#here)\n[d](docs/gone.md)\n"),
                ("docs/style.md", "[up](../README.md) [a](adr/) [b](adr/gone.md)\n"),
                ("docs/adr/0001-one.md", ""),
            ],
            &[
                "README.md:2: links to `docs/gone.md`, which is gone",
                "docs/style.md:1: links to `adr/gone.md`, which is gone",
            ],
        ),
    ]
}

fn gotcha_rows() -> Vec<Row> {
    let rule = "what shows a gotcha is there";
    let shown = house(
        "",
        &[
            ("scenarios/node-port/README.md", ""),
            ("crates/a/src/tests.rs", "fn it_holds() {}\n"),
            (
                "docs/gotchas.md",
                "| # | what | shown by |\n|---|---|---|\n\
                 | 1 | well-known | node-port, `it_holds()`; *behaviour*: a-b c |\n\
                 | 2 | less-known | node-ports, `it_fell()` |\n",
            ),
        ],
    );
    let found = &[
        "docs/gotchas.md:4: names `it_fell`, which is gone",
        "docs/gotchas.md:4: names `node-ports`, which is gone",
    ];
    vec![Row { rule, shown, found }]
}

/// A small house: who needs whom (`⇢` in tests only), and files. Packages whose names are rooms' are ours.
fn house(needs: &str, files: &[(&str, &str)]) -> Tree {
    let strangers = [
        "",
        "ipnet",
        "libc",
        "tokio",
        "tracing",
        "kube",
        "kube-client",
        "k8s-openapi",
        "kubelike",
        "netlink-sys",
    ];
    let mut tree = Tree::default();
    let mut package = |name: &str| {
        let manifest = (!strangers.contains(&name)).then(|| format!("crates/{name}/Cargo.toml"));
        let package = Package { name: name.to_owned(), manifest, needs: Vec::new() };
        tree.packages.entry(name.to_owned()).or_insert(package);
    };
    let pairs: Vec<(&str, When, &str)> = needs.split(", ").filter_map(pair).collect();
    for (name, _, needed) in &pairs {
        package(name);
        package(needed);
    }
    for name in files.iter().filter_map(|(path, _)| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"))
    {
        package(name);
    }
    for (name, when, needed) in pairs {
        let need = Need { package: needed.to_owned(), when };
        tree.packages.get_mut(name).expect("it was just put there").needs.push(need);
    }
    for (path, text) in files {
        tree.files.insert((*path).to_owned(), (*text).to_owned());
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        tree.paths.extend(ends.map(|end| path[..end].to_owned()));
    }
    tree
}

fn pair(text: &str) -> Option<(&str, When, &str)> {
    let shipped = text.split_once(" → ").map(|(name, needed)| (name, When::Shipped, needed));
    shipped.or_else(|| text.split_once(" ⇢ ").map(|(name, needed)| (name, When::Tested, needed)))
}
