//! What the kernel holds, as the mode's own tool lists it, made comparable.

use std::collections::BTreeMap;

use anyhow::Result;
use kernel_io::netns::Netns;
use serde_json::Value;

use super::Mode;
use crate::field::Tools;
use crate::workspace::output;

/// The lines of a namespace's rules, without counters, in an order that tells nothing of how they came about.
pub(super) fn of(mode: Mode, node: &Netns, tools: &Tools) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    match mode {
        Mode::Iptables | Mode::Userspace => {
            for program in ["iptables-save", "ip6tables-save"] {
                let text = node.run(|| output(&mut tools.command(program)))??;
                let rules = text.lines().filter(|line| line.starts_with(['-', ':', '*']));
                let bare = rules.map(|line| line.split(" [").next().unwrap_or(line));
                lines.extend(bare.map(|line| format!("{program}: {line}")));
            }
        }
        Mode::Nftables => {
            let text = node.run(|| output(tools.command("nft").args(["--json", "list", "ruleset"])))??;
            let listed: Value = serde_json::from_str(&text)?;
            for object in listed["nftables"].as_array().into_iter().flatten() {
                add_object(object, &mut lines);
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// What only one of two states has.
pub(super) fn differences(lived: &[String], fresh: &[String]) -> Vec<String> {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    for line in lived {
        *balance.entry(line).or_default() += 1;
    }
    for line in fresh {
        *balance.entry(line).or_default() -= 1;
    }
    let differing = balance.into_iter().filter(|(_, count)| *count != 0);
    differing
        .map(|(line, count)| {
            format!("{}: {line}", if count > 0 { "only after the soak" } else { "only fresh" })
        })
        .collect()
}

/// An object of nft's, its elements as lines of their own. Elements that come and go with clients are left out.
fn add_object(object: &Value, lines: &mut Vec<String>) {
    let mut object = object.clone();
    for (kind, body) in object.as_object_mut().into_iter().flatten() {
        if kind == "metainfo" {
            return;
        }
        let Some(body) = body.as_object_mut() else { continue };
        body.remove("handle");
        let elements = body.remove("elem");
        let name = format!("{} {}", body["family"], body.get("name").unwrap_or(&Value::Null));
        if kind != "rule" && body.get("timeout").is_none() {
            let elements = elements.as_ref().and_then(Value::as_array);
            lines.extend(elements.into_iter().flatten().map(|element| format!("{name}: {element}")));
        }
    }
    lines.push(object.to_string());
}

#[cfg(test)]
mod tests {
    use super::differences;

    #[test]
    fn a_line_that_is_there_twice_differs_from_one() {
        let lines = |text: &[&str]| text.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = differences(&lines(&["a", "b", "b"]), &lines(&["b", "c"]));
        assert_eq!(found, ["only after the soak: a", "only after the soak: b", "only fresh: c"]);
    }
}
