//! `pause` from its image in Debian's podman and runc, in namespaces of its own, with nothing of the machine's. As root.

use std::fs;
use std::path::Path;
use std::process::Command;

use pod_images::pack::Layout;
use testkit::images::busybox;
use testkit::podman::Podman;

/// A pod with one PID namespace and a container in it that leaves an orphan; then pause in a container of its own, and
/// another that joins its processes.
const SCRIPT: &str = r#"
    set -e
    mount -t tmpfs none /run
    podman load --quiet --signature-policy "$0/policy.json" --input "$1" > /dev/null
    podman load --quiet --signature-policy "$0/policy.json" --input "$0/shell.tar" > /dev/null
    podman pod create --name held --network none --share net,ipc,uts,pid --cgroup-parent "$2" --infra-image "$3" > /dev/null
    podman run --detach --pod held --name one fairlead.dev/shell:1 sleep 100000 > /dev/null
    podman exec one sh -c 'tr "\0" "\n" < /proc/1/cmdline'
    podman exec one sh -c '(true > /dev/null 2>&1 &)'
    for try in $(seq 100); do podman exec one sh -c '! grep -q "State:.Z" /proc/[0-9]*/status' && break; done
    [ $try -lt 100 ] && echo "no zombie is left"
    podman pod stop --time 2 held > /dev/null
    podman ps --all --filter name=infra --format 'pause ended with {{.ExitCode}}'
    podman pod rm --force held > /dev/null
    podman run --detach --network none --cgroup-parent "$2" --name alone "$3" > /dev/null
    podman run --rm --network none --cgroup-parent "$2" --pid container:alone fairlead.dev/shell:1 \
        sh -c 'tr "\0" "\n" < /proc/1/cmdline'
    podman stop --time 2 alone > /dev/null
    podman ps --all --format '{{.Names}} ended with {{.ExitCode}}'
    podman rm --force alone > /dev/null
"#;

#[test]
fn it_holds_a_pod_of_podman() {
    let podman = Podman::new();
    let packed =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["image", "pause"]).status().expect("start xtask");
    assert!(packed.success());
    let pause = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist/pause.tar");
    let shell = Layout::of(&busybox("fairlead.dev/shell:1")).archive().expect("pack busybox");
    fs::write(podman.directory().join("shell.tar"), shell).expect("write the archive");

    let mut script = Command::new("unshare");
    script.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT]);
    script.arg(podman.directory()).arg(&pause).arg(podman.cgroup());
    script.arg(concat!("fairlead.dev/pause:", env!("CARGO_PKG_VERSION")));
    podman.settle(&mut script);
    let ran = script.output().expect("start unshare");
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "/pause\nno zombie is left\npause ended with 0\n/pause\nalone ended with 0\n",
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
