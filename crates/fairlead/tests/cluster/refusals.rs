//! What cannot work is told in one clear line.

use std::fs;
use std::process::Command;

use crate::cluster::Cluster;
use crate::credentials;

pub(crate) fn each_is_one_clear_line(cluster: &mut Cluster) {
    // Blind to services alone: of two needed kinds that are refused, either may end it.
    let seen = "--resource=nodes,servicecidrs.networking.k8s.io,endpointslices.discovery.k8s.io";
    cluster.kubectl(&["create", "clusterrole", "half-blind", "--verb=get,list,watch", seen], "");
    cluster.kubectl(
        &["create", "clusterrolebinding", "half-blind", "--clusterrole=half-blind", "--user=blind"],
        "",
    );
    let broken = cluster.path("broken.kubeconfig");
    fs::write(&broken, "clusters: {").expect("a written file");
    let stranger = cluster.write_kubeconfig("stranger", "nobodys-token");
    let absent = cluster.path("absent.kubeconfig");
    let [uncertified, unplugged] = credentials::bad_ones(cluster);
    let with = |kubeconfig: &str| vec!["--kubeconfig".to_owned(), kubeconfig.to_owned()];
    let path = |path: &std::path::Path| path.display().to_string();
    for (arguments, expected) in [
        (with(&path(&absent)), "cannot use the kubeconfig"),
        (with(&path(&broken)), "cannot use the kubeconfig"),
        (with(&path(&uncertified)), "the credentials are refused: Unauthorized"),
        (with(&path(&unplugged)), "the vault is closed"),
        (with(&path(&stranger)), "the credentials are refused: Unauthorized"),
        (with(&path(&cluster.path("blind.kubeconfig"))), "services are refused: services is forbidden"),
        (vec!["--master".to_owned(), "https://127.0.0.1:1".to_owned()], "Connection refused"),
        (vec!["--master".to_owned(), "::".to_owned()], "--master \"::\" is not an address"),
        (Vec::new(), "no way to the API server"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead"));
        command.args(["proxy", "--dry-run"]).args(&arguments);
        command.env_remove("KUBERNETES_SERVICE_HOST");
        let output = cluster.nodes[0].netns.run(|| command.output()).expect("entered").expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        let lines: Vec<&str> = stderr.lines().filter(|line| line.contains(expected)).collect();
        assert_eq!(lines.len(), 1, "{arguments:?}, {expected:?}: {stderr}");
        // The second one says that nothing could be listed.
        assert!(stderr.lines().count() <= 2, "{arguments:?}: {stderr}");
    }
}
