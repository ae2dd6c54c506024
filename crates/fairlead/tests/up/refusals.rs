//! What cannot be, said in a line that names the object and the field; whatever else is up stays up.

use crate::world::World;

const WEB: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: 'rootfs:/srv/busybox', command: [sleep, '1000'], ports: [{name: http, containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";

/// A Pod of this name with an image.
fn pod(name: &str, image: &str) -> String {
    WEB.split("---")
        .next()
        .unwrap_or_default()
        .replace("name: web", &format!("name: {name}"))
        .replace("rootfs:/srv/busybox", image)
}

#[test]
fn what_cannot_be_is_said_in_a_line_each_and_hurts_no_other() {
    let world = World::new();
    world.write("a.yaml", WEB);
    // Two addresses: that of `web`, and one more.
    world.up(&["--pod-cidr", "10.244.9.0/29", "--service-cidr", "10.96.9.0/30"]);
    world.await_shown("it is up", |shown| shown["settled"] == true && shown["services"][0]["ready"] == 1);
    let before = world.processes();

    world.write("b.yaml", &pod("web", "rootfs:/srv/busybox"));
    world.write("c.yaml", &pod("none", "rootfs:/none/at/all"));
    world.write(
        "d.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: lone}\nspec: {ports: [{port: 1}]}\n",
    );
    world.write("e.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: full}\nspec: {selector: {a: b}, ports: [{port: 1}]}\n");
    world.write("f.yaml", "kind: Pod\n  metadata: {\n");
    world.write(
        "g.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: a}]}\n",
    );
    for number in 0..6 {
        world.write(&format!("h{number}.yaml"), &pod(&format!("many-{number}"), "rootfs:/srv/busybox"));
    }
    let expected = [
        "b.yaml: Pod default/web: is ignored here, for ",
        "Pod default/none: spec.containers[a].image: image rootfs:/none/at/all: not found",
        "d.yaml:1: Service default/lone: spec.selector: is missing",
        "spec.clusterIP: every address of 10.96.9.0/30 is taken",
        "f.yaml:2:",
        "g.yaml:1: Pod default/bad: spec.containers[0].image: is missing",
        "every address of 10.244.9.0/29 is taken, by 5 pods",
    ];
    world.await_shown("all is said", |_| {
        let logged = world.logged();
        expected.iter().all(|line| logged.lines().any(|logged| logged.contains(line)))
    });
    assert!(before.iter().all(|pid| world.processes().contains(pid)));

    // A broken file keeps what it gave.
    world.write("a.yaml", "{");
    world.await_shown("the file is broken", |_| world.logged().contains("a.yaml:1:"));
    world.write("a.yaml", WEB);
    for name in ["b.yaml", "c.yaml", "d.yaml", "e.yaml", "f.yaml", "g.yaml"] {
        world.delete(name);
    }
    for number in 0..6 {
        world.delete(&format!("h{number}.yaml"));
    }
    world.await_shown("it is as before", |shown| {
        shown["settled"] == true && shown["pods"].as_array().is_some_and(|pods| pods.len() == 1)
    });
    assert_eq!(world.processes(), before);
    world.down();
    world.assert_empty();
}
