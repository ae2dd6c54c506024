//! `pause` from its image in Debian's podman and runc, in namespaces of its own, with nothing of the machine's. As root.

use std::fs;
use std::path::Path;
use std::process::Command;

use pod_images::pack::Layout;
use testkit::debian;
use testkit::images::busybox;

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
    let directory = tempfile::tempdir().expect("make a directory");
    let at = |name: &str| directory.path().join(name);
    let packed =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["image", "pause"]).status().expect("start xtask");
    assert!(packed.success());
    let pause = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist/pause.tar");
    let shell = Layout::of(&busybox("fairlead.dev/shell:1")).archive().expect("pack busybox");
    fs::write(at("shell.tar"), shell).expect("write the archive");
    fs::write(at("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("write");
    let storage =
        format!("[storage]\ndriver = \"vfs\"\nrunroot = {:?}\ngraphroot = {:?}\n", at("run"), at("root"));
    fs::write(at("storage.conf"), storage).expect("write");
    let plugins = debian::unpacked("containernetworking-plugins").join("usr/lib/cni");
    // Not crun: it refuses where version 2 of the cgroups has no controllers and version 1 has them all.
    let settings = format!(
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\ntmp_dir = {:?}\n\
         volume_path = {:?}\nstatic_dir = {:?}\n[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [{:?}]\n\
         network_config_dir = {:?}\n",
        at("tmp"),
        at("volumes"),
        at("static"),
        plugins,
        at("networks")
    );
    fs::write(at("containers.conf"), settings).expect("write");
    let cgroup = format!("/fairlead-podman-{}", std::process::id());
    let programs = debian::unpacked("podman").join("usr/bin");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));

    let mut script = Command::new("unshare");
    script.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT]);
    script.arg(directory.path()).arg(&pause).arg(&cgroup);
    script.arg(concat!("fairlead.dev/pause:", env!("CARGO_PKG_VERSION")));
    script.env("PATH", path).env("CONTAINERS_CONF", at("containers.conf"));
    let ran = script.env("CONTAINERS_STORAGE_CONF", at("storage.conf")).output().expect("start unshare");
    // What was killed with its namespace has nobody to tidy up after it; deepest first.
    let everywhere = r#"find /sys/fs/cgroup/*"$0" -depth -type d -exec rmdir {} + 2> /dev/null; true"#;
    assert!(Command::new("sh").args(["-c", everywhere, &cgroup]).status().expect("start sh").success());
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "/pause\nno zombie is left\npause ended with 0\n/pause\nalone ended with 0\n",
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
