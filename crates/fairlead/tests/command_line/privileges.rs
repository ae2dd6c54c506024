//! With how little the proxy gets along once `--init-only` was run.

use std::ffi::OsStr;

use crate::stage::{Account, Stage};

#[test]
fn init_only_prepares_the_kernel_and_writes_no_rules() {
    let stage = Stage::new();
    let localnet = "net.ipv4.conf.all.route_localnet";
    let read = || stage.netns.run(|| kernel_io::sysctl::read(localnet)).expect("entered").expect("a setting");
    assert_eq!(read(), "0");
    let mut command = stage.command(&["proxy", "--init-only"]);
    command.env_remove("KUBERNETES_SERVICE_HOST");
    stage.ended(command).success().line_with(&["from here on CAP_NET_ADMIN is enough"]);
    assert_eq!(read(), "1");
    assert_eq!(stage.rules(), "iptables\n\nip6tables\n\n");
    let line = stage.proxy_of_nobody(&["--init-only"]).one_line(1);
    assert!(line.contains("permission denied"), "{line}");
}

/// The mode of this name by these tools, prepared by root and from then on run by somebody with these capabilities.
fn gets_along(stage: &Stage, mode: &str, path: &OsStr, account: Account, capabilities: &[&str]) {
    let flag = format!("--proxy-mode={mode}");
    let mut root = stage.proxy_command(&["--init-only", &flag]);
    root.env("PATH", path);
    stage.ended(root).success();
    let run = |arguments: &[&str]| {
        let mut command =
            stage.proxy_with(account, capabilities, &[&[flag.as_str()][..], arguments].concat());
        command.env("PATH", path);
        stage.ended(command).success()
    };
    let rules = || {
        let saved = ["iptables-legacy-save", "ip6tables-legacy-save"].map(|tool| stage.tool(tool, &[], ""));
        saved.concat() + &stage.tool("nft", &["list", "ruleset"], "")
    };
    let ended = run(&["--once"]);
    assert!(!ended.stderr.contains("WARN"), "{mode}: {ended:#?}");
    assert!(rules().contains("10.96.0.10"), "{mode}: {}", rules());
    run(&["--once", "-v=4"]).wrote_nothing();
    run(&["--cleanup"]);
    assert!(!rules().contains("KUBE") && !rules().contains("fairlead"), "{mode}: {}", rules());
}

#[test]
fn after_init_only_net_admin_is_enough() {
    for mode in ["nftables", "iptables", "auto"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        gets_along(&Stage::with_example(), mode, &path, Account::Nobody, &["net_admin"]);
    }
}

#[test]
fn the_legacy_tools_need_net_raw_too() {
    let stage = Stage::with_example();
    let mut path = stage.legacy_tools().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    // The kernel lets root alone read which tables there are.
    gets_along(&stage, "iptables", &path, Account::Root, &["net_admin", "net_raw"]);
    let mut less = stage.proxy_with(Account::Root, &["net_admin"], &["--once", "--proxy-mode=iptables"]);
    less.env("PATH", &path);
    let line = stage.ended(less).one_line(1);
    assert!(line.contains("CAP_NET_RAW"), "{line}");
}
