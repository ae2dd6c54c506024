//! Pods with user numbers of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use crate::world::World;

const SLEEP: &str = "command: [sleep, '1000']";

/// Who is nobody to the machine must still find its way to the files of the pod.
fn world() -> World {
    let world = World::new();
    fs::set_permissions(world.directory.path(), fs::Permissions::from_mode(0o711)).expect("set");
    world
}

#[test]
fn root_in_a_pod_with_its_own_users_is_nobody_outside_and_files_are_as_they_are_on_disk() {
    let world = world();
    let data = world.directory.path().join("data");
    fs::create_dir(&data).expect("made");
    fs::write(data.join("of-1000"), "x").expect("written");
    chown(data.join("of-1000"), Some(1000), Some(1000)).expect("given");
    world.run(&format!(
        "{{hostUsers: false, securityContext: {{fsGroup: 4000}},
          volumes: [{{name: e}}, {{name: m, emptyDir: {{medium: Memory}}}}, {{name: h, hostPath: {{path: '{}'}}}},
                    {{name: d, downwardAPI: {{items: [{{path: name, fieldRef: {{fieldPath: metadata.name}}}}]}}}}],
          containers: [{{name: a, image: IMAGE, {SLEEP}, volumeMounts: [{{name: e, mountPath: /e}}, {{name: m, mountPath: /m}},
            {{name: h, mountPath: /h}}, {{name: d, mountPath: /d}}, {{name: e, mountPath: /sub, subPath: a/b}}]}},
            {{name: b, image: IMAGE, {SLEEP}, securityContext: {{runAsUser: 1000}}, volumeMounts: [{{name: h, mountPath: /h}}]}}]}}",
        data.display()
    ));
    let first =
        world.exec("a", "awk '{print $2}' /proc/self/uid_map").trim().parse::<u32>().expect("a number");
    assert!(first >= 65_536, "{first}");
    assert_eq!(world.exec("a", "id -u; stat -c %u /bin/busybox /etc/hosts /; hostname"), "0\n0\n0\n0\np\n");
    let pid = &world.container("a")["state"]["running"]["pid"];
    assert_eq!(fs::metadata(format!("/proc/{pid}")).expect("it runs").uid(), first);
    // Its own files, in the image, in memory and on disk.
    world.exec(
        "a",
        "touch /own /e/own /m/own /h/own /sub/own; echo 192.0.2.9 more >> /etc/hosts; chown 7:8 /h/own",
    );
    assert_eq!(
        world.exec("a", "stat -c %u:%g /own /h/own /h/of-1000; ls /e/a/b; cat /d/name"),
        "0:0\n7:8\n1000:1000\nown\np"
    );
    assert_eq!(world.exec("a", "stat -c %g /e /m"), "4000\n4000\n");
    let own = fs::metadata(data.join("own")).expect("made");
    assert_eq!((own.uid(), own.gid()), (7, 8));
    world.exec("b", "echo more >> /h/of-1000");
    // What is the machine's stays the machine's.
    assert_eq!(world.exec("a", "mknod /dev/x b 8 0 2>/dev/null || echo refused"), "refused\n");
    world.good(&["stop", "--grace", "0", "p"]);
    world.good(&["rm", "p"]);
    assert!(data.join("own").exists(), "the node's directory is still there");
    world.finish(&[]);
}

#[test]
fn pods_with_their_own_users_share_none_and_may_share_their_processes() {
    let world = world();
    let manifest = |name: &str| {
        crate::world::pod(
            name,
            &format!(
                "{{hostUsers: false, shareProcessNamespace: true, containers: [{{name: a, image: IMAGE, {SLEEP}}}]}}"
            ),
        )
    };
    let mut firsts = Vec::new();
    for name in ["p", "q"] {
        let path = world.manifest(&manifest(name));
        world.good(&["run", "--timeout", "60", "-f", &path]);
        firsts.push(world.good(&["exec", name, "--", "awk", "{print $2}", "/proc/self/uid_map"]));
        assert_eq!(world.good(&["exec", name, "--", "cat", "/proc/1/comm"]), "pause\n");
    }
    assert_ne!(firsts[0], firsts[1]);
    world.finish(&["p", "q"]);
}
