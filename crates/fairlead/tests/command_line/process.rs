//! The process as such: its configuration file, its forms of the command line, and what it may do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::stage::{BINARY, Ended, Stage, endpoints, service};

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

impl Stage {
    /// A configuration file with these fields.
    pub(crate) fn config(&self, fields: &str) -> PathBuf {
        let path = self.directory().join("config.conf");
        fs::write(&path, format!("{HEAD}{fields}")).expect("a written file");
        path
    }

    /// A call with a configuration file.
    fn with_config(&self, fields: &str, more: &[&str]) -> Ended {
        let path = self.config(fields);
        let mut command = self.command(&["proxy", "--config"]);
        command.arg(path).arg("--manifests").arg(self.manifests()).args(more);
        self.ended(command)
    }
}

#[test]
fn each_version_form_prints_and_exits() {
    let stage = Stage::new();
    for (arguments, expected) in [
        (&["--version"][..], "fairlead 0.1.0\n"),
        (&["proxy", "--version"], "Kubernetes v1.36.1+fairlead-0.1.0\n"),
        (&["proxy", "--version=true"], "Kubernetes v1.36.1+fairlead-0.1.0\n"),
    ] {
        let ended = stage.ended(stage.command(arguments)).success();
        assert_eq!(ended.stdout, expected, "{arguments:?}");
    }
    let raw = stage.ended(stage.command(&["proxy", "--version=raw"])).success();
    assert!(raw.stdout.starts_with("version.Info{Major:\"1\", Minor:\"36\""), "{raw:?}");
    let wrong = stage.ended(stage.command(&["proxy", "--version=1.2"]));
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn by_the_name_of_kube_proxy_it_takes_its_flags() {
    let stage = Stage::with_example();
    let name = stage.directory().join("kube-proxy");
    symlink(BINARY, &name).expect("a link");
    let mut command = Command::new(&name);
    command.args(["-v=0", "--hostname_override=node-1", "--kube-api-qps=50", "--dry-run", "--manifests"]);
    let ended = stage.ended({
        command.arg(stage.manifests());
        command
    });
    assert!(ended.success().stdout.contains("KUBE-SERVICES"));
}

#[test]
fn the_configuration_is_written_as_it_counts_and_read_back_the_same() {
    let stage = Stage::new();
    let out = stage.directory().join("written.conf");
    let path = out.to_str().expect("a path of ours");
    stage.with_config("mode: nftables\noomScoreAdj: 5\n", &["--write-config-to", path]).success();
    let written = fs::read_to_string(&out).expect("a file");
    for line in [
        "mode: nftables",
        "detectLocalMode: ClusterCIDR",
        "- primary",
        "oomScoreAdj: 5",
        "metricsBindAddress: 127.0.0.1:10249",
        "kind: KubeProxyConfiguration",
    ] {
        assert!(written.lines().any(|found| found.trim_end() == line), "{line}: {written}");
    }
    let again = stage.directory().join("again.conf");
    let mut command = stage.command(&["proxy", "--config", path, "--write-config-to"]);
    command.arg(&again);
    stage.ended(command).success();
    assert_eq!(fs::read_to_string(again).expect("a file"), written);
}

#[test]
fn a_configuration_that_is_wrong_is_told_field_by_field() {
    let stage = Stage::with_example();
    let ended = stage.with_config(
        "mode: foo\nbindAddress: foo\noomScoreAdj: 2000\nnodePortAddresses: [any, foo]\n",
        &["--once"],
    );
    assert_eq!(ended.status.code(), Some(1), "{ended:#?}");
    let fields =
        ["Mode.ProxyMode", "BindAddress", "OOMScoreAdj", "NodePortAddresses[0]", "NodePortAddresses[1]"];
    for field in fields {
        ended.line_with(&["error: failed validate: KubeProxyConfiguration.", field]);
    }
    assert_eq!(ended.stderr.lines().count(), fields.len(), "{ended:#?}");
    assert_eq!(stage.rules(), "iptables\n\nip6tables\n\n");
}

#[test]
fn a_file_that_is_no_configuration_is_one_clear_line() {
    let stage = Stage::new();
    for (fields, expected) in [
        ("mode: [", "KubeProxyConfiguration: "),
        ("mode: 5", "KubeProxyConfiguration: mode: invalid type: integer `5`, expected a string"),
        ("iptables: {syncPeriod: soon}", "iptables.syncPeriod: \"soon\" is not a duration"),
        (
            "iptables: {masqueradeBit: many}",
            "iptables.masqueradeBit: invalid type: string \"many\", expected i32",
        ),
    ] {
        let line = stage.with_config(fields, &["--once"]).one_line(1);
        assert!(
            line.starts_with("error: cannot use the configuration ") && line.contains(expected),
            "{line}"
        );
    }
    let mut command = stage.command(&["proxy", "--config", "/nowhere/at/all"]);
    command.arg("--once");
    let line = stage.ended(command).one_line(1);
    assert_eq!(
        line,
        "error: cannot read the configuration /nowhere/at/all: No such file or directory (os error 2)"
    );
}

#[test]
fn what_does_not_count_is_told() {
    let stage = Stage::with_example();
    let ended = stage
        .with_config(
            "foo: bar\nmode: iptables\nmode: nftables\nfeatureGates: {Nonsense: true, AllBeta: true}\n",
            &["--dry-run", "--cluster-cidr=10.0.0.0/8", "--kube-api-qps=7", "-v=4"],
        )
        .success();
    ended.line_with(&["WARN", "KubeProxyConfiguration has no field foo"]);
    ended.line_with(&["WARN", "written twice the last one counts", "mode"]);
    ended.line_with(&[
        "WARN",
        "beside a configuration file these flags do not count",
        "kube-api-qps cluster-cidr",
    ]);
    ended.line_with(&["WARN", "no Kubernetes known to us has these feature gates", "\"Nonsense\""]);
    ended.line_with(&["DEBUG", "accepted, and does nothing", "kube-api-qps"]);
    assert!(ended.stdout.contains("table ip fairlead"), "the last mode counts: {ended:#?}");
}

#[test]
fn the_mode_of_the_flag_comes_before_the_files() {
    let stage = Stage::with_example();
    let ended = stage.with_config("mode: nftables\n", &["--dry-run", "--proxy-mode=iptables"]).success();
    assert!(ended.stdout.contains("KUBE-SERVICES") && !ended.stdout.contains("table ip fairlead"));
}

#[test]
fn auto_chooses_what_this_kernel_can_do_and_says_why() {
    let stage = Stage::with_example();
    let ended = stage.proxy(&["--once", "--proxy-mode=auto"]).success();
    ended.line_with(&["auto chose the mode", "mode=\"nftables\"", "this kernel took all of its rules"]);
    assert!(stage.tool("nft", &["list", "tables"], "").contains("table ip fairlead"));
    assert_eq!(stage.rules(), "iptables\n\nip6tables\n\n");
}

/// As in a container without privileges.
#[test]
fn what_may_not_be_set_is_told_in_a_line_each_and_the_rules_are_written() {
    const READ_ONLY: &str =
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$0\" \"$@\"";
    let stage = Stage::with_example();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", READ_ONLY, BINARY, "proxy", "--once", "--manifests"]);
    command.arg(stage.manifests()).env("XTABLES_LOCKFILE", stage.directory().join("lock"));
    let ended = stage.ended(command).success();
    ended.line_with(&["WARN", "node ports are not served on localhost", "net.ipv4.conf.all.route_localnet"]);
    ended.line_with(&[
        "WARN",
        "the connection tracker keeps its own settings",
        "nf_conntrack_tcp_timeout_established=86400",
    ]);
    assert_eq!(ended.stderr.matches("WARN").count(), 2, "{ended:#?}");
    assert!(stage.rules().contains("10.96.0.10"));
}

#[test]
fn the_score_of_memory_is_taken_and_a_refusal_stops_nobody() {
    let stage = Stage::with_example();
    let proxy = stage.start(stage.proxy_command(&["--oom-score-adj=555"]));
    proxy.until_log("serving");
    assert_eq!(proxy.proc("oom_score_adj").trim(), "555");
    let mut refused = Command::new("setpriv");
    refused.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]).arg(BINARY);
    refused.args(["proxy", "--oom-score-adj=-999", "--manifests"]).arg(stage.manifests());
    refused.env("XTABLES_LOCKFILE", stage.directory().join("lock"));
    let proxy = stage.start(refused);
    proxy.until_log("serving");
    assert!(proxy.log().contains("may be ended sooner"), "{}", proxy.log());
}

#[test]
fn a_service_may_begin_with_a_digit() {
    for mode in ["iptables", "nftables", "userspace", "ipvs"] {
        let stage = Stage::new();
        let text =
            service("1st-web.2", "10.96.0.7", ", nodePort: 30080") + &endpoints("1st-web.2", &["10.244.0.7"]);
        stage.write("digit.yaml", &text);
        let shown = stage.proxy(&["--dry-run", "--proxy-mode", mode]).success();
        assert!(shown.stdout.contains("10.96.0.7"), "{mode}: {}", shown.stdout);
        if matches!(mode, "iptables" | "nftables") {
            let ended = stage.proxy(&["--once", "--proxy-mode", mode]).success();
            assert!(!ended.stderr.contains("WARN"), "{ended:#?}");
        }
    }
}

#[test]
fn the_proxy_on_the_way_is_that_of_the_kubeconfig() {
    let stage = Stage::new();
    let path = stage.directory().join("kubeconfig");
    let text = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters: [{{name: it, cluster: {{server: \"http://127.0.0.1:1\"{more}}}}}]\n\
             users: [{{name: it, user: {{}}}}]\ncontexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
        )
    };
    let line = |more: &str| {
        fs::write(&path, text(more)).expect("a written file");
        let mut command = stage.command(&["proxy", "--dry-run", "--kubeconfig"]);
        command.arg(&path).env("HTTPS_PROXY", "http://127.0.0.1:2");
        stage.ended(command)
    };
    let refused = line(", proxy-url: \"https://127.0.0.1:3\"").one_line(1);
    assert!(refused.contains("it has the proxy-url https://127.0.0.1:3"), "{refused}");
    for (scheme, what) in [("http", "tunnel error"), ("socks5", "SOCKS error")] {
        let ended = line(&format!(", proxy-url: \"{scheme}://127.0.0.1:3\""));
        ended.line_with(&[
            "the API server cannot be reached",
            what,
            "failed to create underlying connection",
        ]);
    }
    let direct = line("");
    direct.line_with(&["the API server cannot be reached", "Connection refused"]);
    assert!(!direct.stderr.contains("tunnel"), "{direct:#?}");
}
