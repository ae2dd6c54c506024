//! What a kubelet does with a pod of a DaemonSet, as far as a proxy needs it: the image unpacked, the volumes filled,
//! the containers run by an OCI runtime with the rights that the pod gives them, on the node's own network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Process, spawn};
use crate::node::Node;

/// What a kubelet does on one node.
pub(crate) struct Kubelet<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    directory: PathBuf,
}

/// A container that runs; it ends with this.
pub(crate) struct Container {
    process: Process,
    state: PathBuf,
    id: String,
}

/// Docker's, and so everybody's.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

const NAMESPACE: &str = "kube-system";
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// `cargo xtask image fairlead` writes it.
pub(crate) fn image() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dist/fairlead.tar")
}

impl<'a> Kubelet<'a> {
    pub(crate) fn of(cluster: &'a Cluster, node: &'a Node) -> Self {
        let directory = cluster.path(&format!("kubelet-{}", node.name));
        fs::create_dir_all(&directory).expect("a directory");
        Self { cluster, node, directory }
    }

    /// Runs a DaemonSet's pod: its first containers one after another, then the one that stays.
    pub(crate) fn run(&self, daemonset: &str) -> Container {
        let text = self.cluster.kubectl(&["-n", NAMESPACE, "get", "daemonset", daemonset, "-o", "json"], "");
        let daemonset: Value = serde_json::from_str(&text).expect("JSON");
        let pod = &daemonset["spec"]["template"]["spec"];
        assert_eq!(pod["hostNetwork"], true, "a proxy is on the node's network");
        self.write_account(pod["serviceAccountName"].as_str().expect("an account"));
        for container in pod["initContainers"].as_array().into_iter().flatten() {
            let mut first = self.start(pod, container);
            let status = first.process.wait();
            assert!(status.success(), "{}: {status}\n{}", container["name"], first.log());
        }
        self.start(pod, &pod["containers"][0])
    }

    /// The account's token and the authority of the server, as a projected volume has them.
    fn write_account(&self, name: &str) {
        let token = self.cluster.kubectl(&["-n", NAMESPACE, "create", "token", name], "");
        let account = self.directory.join("account");
        fs::create_dir_all(&account).expect("a directory");
        fs::write(account.join("token"), token.trim()).expect("a written file");
        fs::copy(self.cluster.path("certs/apiserver.crt"), account.join("ca.crt")).expect("the authority");
        fs::write(account.join("namespace"), NAMESPACE).expect("a written file");
    }

    fn start(&self, pod: &Value, container: &Value) -> Container {
        let name = container["name"].as_str().expect("a name");
        let bundle = self.directory.join(name);
        unpack(&image(), &bundle.join("rootfs"));
        let config = self.config(pod, container);
        fs::write(bundle.join("config.json"), config.to_string()).expect("a written file");
        let id = format!("fairlead-{}-{}-{name}", std::process::id(), self.node.name);
        let state = self.directory.join("runc");
        let mut runtime = runc(&state);
        runtime.args(["run", "--bundle"]).arg(&bundle).arg(&id);
        let log = self.cluster.path(&format!("{}-{name}.log", self.node.name));
        let process = self.node.netns.run(|| spawn(runtime, &log)).expect("entered");
        Container { process, state, id }
    }

    /// The container in the words of the OCI runtime specification.
    fn config(&self, pod: &Value, container: &Value) -> Value {
        let mut variables =
            vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = variable["value"].as_str().unwrap_or_else(|| {
                assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
                &self.node.name
            });
            variables.push(format!("{}={value}", variable["name"].as_str().expect("a name")));
        }
        let command = container["command"].as_array().expect("a command").iter();
        let command: Vec<String> = command
            .map(|word| word.as_str().expect("a word").replace("$(NODE_NAME)", &self.node.name))
            .collect();
        let security = &container["securityContext"];
        let is_privileged = security["privileged"] == true;
        let hidden = |paths: &[&str]| if is_privileged { json!([]) } else { json!(paths) };
        json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs", "readonly": false },
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": command,
                "env": variables,
                "cwd": "/",
                "capabilities": capabilities(security),
                "noNewPrivileges": security["allowPrivilegeEscalation"] == false,
            },
            "mounts": self.mounts(pod, container),
            "linux": {
                "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "ipc" }],
                "readonlyPaths": hidden(&["/proc/sys", "/proc/irq", "/proc/bus", "/proc/sysrq-trigger"]),
                "maskedPaths": hidden(&["/proc/kcore", "/proc/keys", "/proc/timer_list"]),
            },
        })
    }

    fn mounts(&self, pod: &Value, container: &Value) -> Vec<Value> {
        let bind = |source: &Path, at: &str, mode: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind", mode] });
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
            bind(&self.directory.join("account"), ACCOUNT, "ro"),
        ];
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let volume = pod["volumes"].as_array().expect("volumes").iter();
            let volume = volume.clone().find(|volume| volume["name"] == mount["name"]).expect("its volume");
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            mounts.push(bind(&self.volume(volume), mount["mountPath"].as_str().expect("a path"), mode));
        }
        mounts
    }

    /// Where a volume lies. Files of the host are this node's own, so that nodes do not share them.
    fn volume(&self, volume: &Value) -> PathBuf {
        let name = volume["name"].as_str().expect("a name");
        let path = self.directory.join("volumes").join(name);
        if let Some(map) = volume["configMap"]["name"].as_str() {
            fs::create_dir_all(&path).expect("a directory");
            let text = self.cluster.kubectl(&["-n", NAMESPACE, "get", "configmap", map, "-o", "json"], "");
            let map: Value = serde_json::from_str(&text).expect("JSON");
            for (file, text) in map["data"].as_object().expect("files") {
                fs::write(path.join(file), text.as_str().expect("text")).expect("a written file");
            }
        } else if volume["hostPath"]["type"] == "FileOrCreate" {
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            File::options().create(true).append(true).open(&path).expect("a file");
        } else {
            assert!(volume["hostPath"]["path"].is_string(), "{volume}");
            fs::create_dir_all(&path).expect("a directory");
        }
        path
    }
}

impl Container {
    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may have ended already. Whoever started it sees it end and reaps it; only then does its cgroup go.
        if runc(&self.state)
            .args(["kill", "--all", &self.id, "KILL"])
            .output()
            .is_ok_and(|killed| killed.status.success())
        {
            self.process.wait();
        }
        let _ = runc(&self.state).args(["delete", "--force", &self.id]).output();
    }
}

/// The runtime, with a state of its own.
fn runc(state: &Path) -> Command {
    let mut command = Command::new("runc");
    command.arg("--root").arg(state).stdin(Stdio::null());
    command
}

/// The capabilities of a container, in all the sets that matter.
fn capabilities(security: &Value) -> Value {
    let named = |list: &str| -> Vec<String> {
        let names = security["capabilities"][list].as_array().into_iter().flatten();
        names.map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    let mut held: Vec<String> = DEFAULT_CAPABILITIES.map(str::to_owned).to_vec();
    if security["privileged"] == true {
        held.extend(["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_MODULE"].map(str::to_owned));
    }
    if named("drop").contains(&"ALL".to_owned()) {
        held.clear();
    }
    held.extend(named("add").iter().map(|name| format!("CAP_{name}")));
    json!({ "bounding": held, "effective": held, "permitted": held })
}

/// Unpacks an image's layers over one another. They are ours: nothing in them takes anything away.
fn unpack(archive: &Path, rootfs: &Path) {
    let layout = rootfs.with_file_name("layout");
    let tar = |file: &Path, into: &Path| {
        fs::create_dir_all(into).expect("a directory");
        let unpacked = Command::new("tar").arg("-xf").arg(file).arg("-C").arg(into).status();
        assert!(unpacked.expect("tar starts").success(), "tar -xf {}", file.display());
    };
    tar(archive, &layout);
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let read =
        |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON") };
    let manifest = read(&blob(&read(&layout.join("index.json"))["manifests"][0]));
    for layer in manifest["layers"].as_array().expect("layers") {
        tar(&blob(layer), rootfs);
    }
    fs::remove_dir_all(&layout).expect("removed");
}
