//! What the binary shows without doing anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::stage::{BINARY, Ended, NOBODY, Stage, TOOLS, endpoints, service};

fn shown(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).uid(NOBODY).gid(NOBODY).output();
    Ended::from(output.expect("it starts")).success().stdout
}

/// The part of a dry run that is for one tool.
fn part<'a>(dry_run: &'a str, tool: &str) -> &'a str {
    let (_, rest) = dry_run.split_once(&format!("# {tool}\n")).expect("a part for each tool");
    rest.split_once("\n# ").map_or(rest, |(part, _)| part)
}

#[test]
fn a_dry_run_needs_no_root_and_touches_nothing() {
    let stage = Stage::with_example();
    let nobodys = stage.proxy_of_nobody(&["--dry-run"]).success();
    assert_eq!(nobodys.stderr, "");
    let roots = stage.proxy(&["--dry-run"]).success();
    assert_eq!(nobodys.stdout, roots.stdout);
    assert_eq!(stage.rules(), "iptables\n\nip6tables\n\n");
}

#[test]
fn a_dry_run_shows_the_same_twice() {
    let stage = Stage::with_example();
    let first = stage.proxy_of_nobody(&["--dry-run"]).success().stdout;
    for name in ["1-first.yaml", "2-second.yaml"] {
        // In another order the files say the same.
        let from = ["services.yaml", "endpointslices.yaml"][usize::from(name.starts_with('1'))];
        fs::rename(stage.manifests().join(from), stage.manifests().join(name)).expect("renamed");
    }
    assert_eq!(stage.proxy_of_nobody(&["--dry-run"]).success().stdout, first);
}

#[test]
fn a_dry_run_names_every_endpoint_of_the_example() {
    let shown = Stage::with_example().proxy_of_nobody(&["--dry-run"]).success().stdout;
    for pod in ["10.244.0.11", "10.244.0.14", "10.244.0.21", "10.244.0.24"] {
        assert!(shown.contains(&format!("--to-destination {pod}:8080")), "{shown}");
    }
    assert!(shown.contains("-d 10.96.0.10/32 -p tcp -m comment --comment \"default/web:http cluster IP\""));
    assert!(shown.contains("--dport 30080"));
}

#[test]
fn iptables_restore_takes_a_dry_run() {
    let stage = Stage::with_example();
    let shown = stage.proxy_of_nobody(&["--dry-run"]).success().stdout;
    for tool in TOOLS {
        stage.tool(&format!("{tool}-restore"), &["--test"], part(&shown, tool));
    }
}

#[test]
fn what_a_dry_run_shows_is_what_once_writes() {
    let stage = Stage::with_example();
    let shown = stage.proxy_of_nobody(&["--dry-run"]).success().stdout;
    for tool in TOOLS {
        stage.tool(&format!("{tool}-restore"), &["--noflush"], part(&shown, tool));
    }
    let restored = stage.rules();
    stage.proxy(&["--once", "-v", "4"]).success().wrote_nothing();
    assert_eq!(stage.rules(), restored);
}

#[test]
fn help_has_examples() {
    for arguments in [["proxy", "--help"], ["help", "proxy"]] {
        let help = shown(&arguments);
        assert!(help.contains("Usage: fairlead proxy [OPTIONS]"), "{help}");
        assert!(help.contains("fairlead proxy --manifests examples/two-services --dry-run"), "{help}");
    }
}

#[test]
fn it_tells_its_version() {
    assert_eq!(shown(&["--version"]), format!("fairlead {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn shells_get_their_completions() {
    for (shell, word) in
        [("bash", "complete "), ("zsh", "#compdef fairlead"), ("fish", "complete -c fairlead")]
    {
        let script = shown(&["completions", shell]);
        assert!(script.contains(word) && script.contains("manifests"), "{shell}: {script}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let stage = Stage::new();
    // More than a pipe holds.
    let many = (1..=250).map(|number| {
        let name = format!("service-{number}");
        service(&name, &format!("10.96.0.{number}"), "") + &endpoints(&name, &["10.244.0.1"])
    });
    stage.write("many.yaml", &many.collect::<String>());
    let mut command = Command::new("sh");
    let script = "{ \"$0\" proxy --manifests \"$1\" --dry-run; echo \"exit $?\" >&2; } | head -n 1";
    command.args(["-c", script, BINARY]).arg(stage.manifests());
    let ended = stage.ended(command).success();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("# iptables\n", "exit 0\n"));
}

#[test]
fn by_the_name_of_kube_proxy_it_is_the_proxy() {
    let stage = Stage::with_example();
    let kube_proxy = stage.directory().join("kube-proxy");
    symlink(BINARY, &kube_proxy).expect("a link");
    let mut by_link = Command::new(&kube_proxy);
    let mut by_argument = Command::new(BINARY);
    by_argument.arg0("kube-proxy");
    let expected = stage.proxy(&["--dry-run"]).success().stdout;
    for command in [&mut by_link, &mut by_argument] {
        // Flags as kube-proxy's users write them.
        let output =
            command.arg("--manifests").arg(stage.manifests()).args(["--dry-run", "--proxy_mode=iptables"]);
        let ended = Ended::from(output.output().expect("it starts")).success();
        assert_eq!(ended.stdout, expected);
    }
}
