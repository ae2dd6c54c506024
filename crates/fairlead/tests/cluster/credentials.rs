//! Who the proxy is to the API server: a certificate, what a plugin says, a token that is replaced in time.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::acts::{create, slice};
use crate::cluster::{Cluster, spawn, until};
use crate::node::Node;

/// The user that a cluster's role allows to be a proxy.
const PROXY: &str = "/CN=system:kube-proxy";

/// Makes an authority for certificates of clients, which the server is told to believe.
pub(crate) fn write_authority(directory: &Path) {
    write_own_authority(directory, "clients");
}

pub(crate) fn a_client_certificate_is_enough(cluster: &mut Cluster) {
    create(cluster, "certified", 21, &[1]);
    let output = shown_to(cluster, &kubeconfig_by_certificate(cluster, "clients"));
    assert!(text(&output.stdout).contains("10.96.1.21"), "{output:?}");
}

pub(crate) fn a_plugin_is_asked_who_we_are(cluster: &mut Cluster) {
    create(cluster, "plugged", 22, &[1]);
    let says = "echo '{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\", \
                \"status\": {\"token\": \"proxy-token\"}}'";
    let output = shown_to(cluster, &kubeconfig_by_plugin(cluster, says));
    assert!(text(&output.stdout).contains("10.96.1.22"), "{output:?}");
}

/// The server believes the old token no more, and for a while there is no new one.
pub(crate) fn a_token_that_expires_is_read_again(cluster: &mut Cluster) {
    let at = create(cluster, "renewed", 23, &[1, 2]);
    let node = Node::join(cluster, 10);
    cluster.apply(&node.manifest());
    let token = cluster.path("rotating.token");
    fs::write(&token, "first-token").expect("a written file");
    let user = format!("tokenFile: {}", token.display());
    let kubeconfig = cluster.write_kubeconfig_of("rotating", "", &user);
    let restart = |cluster: &mut Cluster, tokens: &str| {
        cluster.write_tokens(tokens);
        cluster.kill_server();
        cluster.start_server();
    };
    restart(cluster, "first-token,system:kube-proxy,4\n");
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_fairlead"));
    proxy.args(["proxy", "--proxy-mode", "nftables", "--hostname-override", &node.name, "--kubeconfig"]);
    proxy.arg(kubeconfig).args(["--cluster-cidr", "10.244.0.0/16"]);
    let process = node.netns.run(|| spawn(proxy, &cluster.path("rotating.log"))).expect("entered");
    node.until_served_by(at, &[1, 2]);
    restart(cluster, "second-token,system:kube-proxy,4\n");
    until("the refusal is logged", || process.log().contains("the credentials are refused"));
    node.until_served_by(at, &[1, 2]);
    fs::write(&token, "second-token").expect("a written file");
    cluster.apply(&slice("renewed", &[2]));
    node.until_served_by(at, &[2]);
    assert_eq!(process.log().matches("the credentials are refused").count(), 1, "{}", process.log());
    drop(process);
    restart(cluster, "");
    cluster.kubectl(&["delete", "node", &node.name], "");
}

/// Kubeconfigs that name a certificate of a stranger, and a plugin that fails.
pub(crate) fn bad_ones(cluster: &Cluster) -> [PathBuf; 2] {
    write_own_authority(cluster.directory.path(), "strangers");
    [
        kubeconfig_by_certificate(cluster, "strangers"),
        kubeconfig_by_plugin(cluster, "echo 'the vault is closed' >&2; exit 3"),
    ]
}

/// What a proxy that lists everything by this kubeconfig would write.
pub(crate) fn shown_to(cluster: &Cluster, kubeconfig: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead"));
    command.args(["proxy", "--dry-run", "--proxy-mode", "nftables", "--hostname-override", "node-1"]);
    command.arg("--kubeconfig").arg(kubeconfig);
    cluster.nodes[0].netns.run(|| command.output()).expect("entered").expect("it starts")
}

fn kubeconfig_by_certificate(cluster: &Cluster, authority: &str) -> PathBuf {
    let path = |end: &str| cluster.path(&format!("{authority}-proxy.{end}"));
    let (key, request, certificate) = (path("key"), path("csr"), path("crt"));
    let of_authority = |end: &str| cluster.path(&format!("{authority}.{end}"));
    let mut demand = openssl_request(&key, PROXY);
    openssl(demand.arg("-out").arg(&request));
    // With extensions it is of version 3, and others are not used any more.
    let extensions = cluster.path("extensions");
    fs::write(&extensions, "extendedKeyUsage=clientAuth\n").expect("a written file");
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]).arg(&request);
    sign.arg("-extfile").arg(&extensions);
    sign.arg("-CA").arg(of_authority("crt")).arg("-CAkey").arg(of_authority("key"));
    openssl(sign.arg("-out").arg(&certificate));
    let user = format!("client-certificate: {}, client-key: {}", certificate.display(), key.display());
    cluster.write_kubeconfig_of(&format!("by-{authority}"), "", &user)
}

/// The plugin is a script.
fn kubeconfig_by_plugin(cluster: &Cluster, script: &str) -> PathBuf {
    let plugin = cluster.path("plugin");
    fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).expect("a written file");
    fs::set_permissions(&plugin, Permissions::from_mode(0o755)).expect("a program");
    let version = "client.authentication.k8s.io/v1";
    let user =
        format!("exec: {{apiVersion: {version}, command: {}, interactiveMode: Never}}", plugin.display());
    cluster.write_kubeconfig_of("by-plugin", "", &user)
}

fn write_own_authority(directory: &Path, name: &str) {
    let path = |end: &str| directory.join(format!("{name}.{end}"));
    let mut request = openssl_request(&path("key"), &format!("/CN={name}"));
    openssl(request.args(["-x509", "-days", "2", "-out"]).arg(path("crt")));
}

/// A request for a certificate, with a new key.
fn openssl_request(key: &Path, subject: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-subj", subject, "-keyout"]).arg(key);
    command
}

fn openssl(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("openssl starts");
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
