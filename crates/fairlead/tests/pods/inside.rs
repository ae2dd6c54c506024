//! What containers see.

use crate::world::{World, pod};

const SLEEP: &str = "command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']";

#[test]
fn containers_of_a_pod_share_network_ipc_and_host_name_and_see_each_other_only_if_they_shall() {
    let world = World::new();
    world.run(&format!(
        "{{hostname: box, containers: [
            {{name: a, image: IMAGE, {SLEEP}}},
            {{name: b, image: IMAGE, command: [sh, -c, 'mkdir /www; echo hi > /www/x; exec httpd -f -p 127.0.0.1:8080 -h /www']}}]}}"
    ));
    for kind in ["net", "ipc", "uts"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(world.exec("a", &link), world.exec("b", &link), "{kind}");
    }
    let own = "readlink /proc/self/ns/pid";
    assert_ne!(world.exec("a", own), world.exec("b", own));
    assert_eq!(world.exec("a", "hostname; cat /proc/1/comm"), "box\nsh\n");
    assert_eq!(world.exec("a", "wget -qO- http://127.0.0.1:8080/x"), "hi\n");
    world.exec("a", "echo shared > /dev/shm/x");
    assert_eq!(world.exec("b", "cat /dev/shm/x"), "shared\n");
    let status = world.status("p");
    let hosts = world.exec("a", "cat /etc/hosts");
    assert!(hosts.contains(status["ips"][0].as_str().expect("an address")), "{hosts}");
    world.finish(&["p"]);
}

#[test]
fn with_a_shared_process_namespace_pause_is_process_one_and_reaps() {
    let world = World::new();
    world.run(&format!(
        "{{shareProcessNamespace: true, containers: [
            {{name: a, image: IMAGE, {SLEEP}}},
            {{name: b, image: IMAGE, command: [sleep, '1234']}}]}}"
    ));
    assert_eq!(world.exec("a", "cat /proc/1/comm"), "pause\n");
    assert!(world.exec("a", "ps").contains("sleep 1234"));
    world.exec("a", "(sh -c 'sleep 0.01 & exec true') & wait; sleep 0.3");
    assert!(!world.exec("a", "cat /proc/[0-9]*/stat").contains(") Z "));
    world.finish(&["p"]);
}

#[test]
fn variables_and_volumes_come_from_objects_and_fields() {
    let world = World::new();
    let path = world.manifest(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{colour: blue}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{key: secret}}\n---\n{}",
        pod(
            "p",
            "{securityContext: {fsGroup: 77}, containers: [{name: a, image: IMAGE, command: [sh, -c, 'echo $(B) $0; exec sleep 1000', $(C)],
               envFrom: [{configMapRef: {name: settings}}],
               env: [{name: B, value: '=$(colour)='}, {name: C, valueFrom: {secretKeyRef: {name: keys, key: key}}},
                     {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}],
               volumeMounts: [{name: empty, mountPath: /data}, {name: empty, mountPath: /sub, subPath: inner},
                              {name: map, mountPath: /etc/settings}, {name: key, mountPath: /etc/key, subPath: key},
                              {name: memory, mountPath: /memory}, {name: labels, mountPath: /labels}, {name: empty, mountPath: /ro, readOnly: true}]}],
             volumes: [{name: empty, emptyDir: {}}, {name: map, configMap: {name: settings}},
                       {name: key, secret: {secretName: keys, defaultMode: 0o400}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}},
                       {name: labels, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}"
        )
    ));
    world.good(&["run", "-f", &path]);
    world.eventually(
        || Some(()).filter(|()| world.good(&["logs", "p"]) == "=blue= secret\n"),
        || world.good(&["logs", "p"]),
    );
    assert_eq!(world.exec("a", "cat /etc/settings/colour /etc/key /labels/labels"), "bluesecretapp=\"web\"");
    assert_eq!(
        world.exec("a", "echo x > /sub/file; cat /data/inner/file; stat -c '%g %a' /data /etc/key"),
        "x\n77 2777\n77 440\n"
    );
    assert_eq!(
        world.exec("a", "echo x > /etc/settings/colour || echo x > /ro/x || echo refused"),
        "refused\n"
    );
    assert!(world.exec("a", "df -k /memory | tail -1").contains("1024"));
    let status = world.status("p");
    assert_eq!(world.exec("a", "echo $IP").trim(), status["ips"][0].as_str().expect("an address"));
    world.finish(&["p"]);
}

#[test]
fn a_container_may_do_what_its_security_context_says() {
    let world = World::new();
    world.run(&format!(
        "{{securityContext: {{runAsUser: 1000, runAsGroup: 7, supplementalGroups: [8]}}, containers: [
            {{name: a, image: IMAGE, {SLEEP}, securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}}},
            {{name: b, image: IMAGE, {SLEEP}, securityContext: {{runAsUser: 0, capabilities: {{add: [NET_ADMIN], drop: [CHOWN]}}}}}},
            {{name: c, image: IMAGE, {SLEEP}, securityContext: {{runAsUser: 0, privileged: true}}}}]}}"
    ));
    assert_eq!(world.exec("a", "id -u; id -g; id -G"), "1000\n7\n7 8\n");
    let field = |container: &str, name: &str| {
        let line = world.exec(container, &format!("grep ^{name}: /proc/self/status"));
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).expect("a value")
    };
    assert_eq!(
        (field("a", "NoNewPrivs"), field("a", "Seccomp"), field("a", "CapBnd")),
        ("1".into(), "2".into(), "0".repeat(16))
    );
    assert_eq!((field("b", "NoNewPrivs"), field("b", "Seccomp")), ("0".to_owned(), "2".to_owned()));
    let bounds = u64::from_str_radix(&field("b", "CapBnd"), 16).expect("a number");
    assert_eq!((bounds & 1, bounds >> 12 & 1), (0, 1), "CHOWN is gone, NET_ADMIN is there: {bounds:x}");
    assert_eq!(field("c", "Seccomp"), "0");
    assert_eq!(
        world.exec("a", "touch /x 2>&1 || echo refused"),
        "touch: /x: Read-only file system\nrefused\n"
    );
    assert_eq!(
        world.exec("b", "touch /x; mkdir /m; mount -t tmpfs x /m 2>/dev/null || echo refused"),
        "refused\n"
    );
    assert_eq!(
        world.exec(
            "b",
            "echo 1 > /proc/sys/vm/swappiness 2>/dev/null || echo refused; cat /proc/keys | wc -c"
        ),
        "refused\n0\n"
    );
    assert_eq!(world.exec("c", "mkdir /m; mount -t tmpfs x /m && echo mounted"), "mounted\n");
    world.finish(&["p"]);
}

#[test]
fn a_pod_may_have_the_nodes_network_processes_and_ipc() {
    let world = World::new();
    world.run(&format!(
        "{{hostNetwork: true, hostPID: true, hostIPC: true, containers: [{{name: a, image: IMAGE, {SLEEP}}}]}}"
    ));
    let ours = |kind: &str| {
        std::fs::read_link(format!("/proc/self/ns/{kind}"))
            .expect("a namespace")
            .to_str()
            .expect("text")
            .to_owned()
    };
    for kind in ["pid", "ipc", "uts"] {
        assert_eq!(world.exec("a", &format!("readlink /proc/self/ns/{kind}")).trim(), ours(kind));
    }
    assert_eq!(world.exec("a", "ls /sys/class/net").trim(), "lo");
    world.finish(&["p"]);
}
