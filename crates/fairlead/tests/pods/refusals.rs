//! What cannot be, said in a line, with nothing left of it.

use std::fs;

use crate::world::{World, pod};

const SLEEP: &str = "command: [sleep, '1000']";

#[test]
fn what_cannot_be_is_said_in_a_line_and_leaves_nothing() {
    let world = World::new();
    for (spec, expected) in [
        (
            "{containers: [{name: a, image: 'rootfs:/none/at/all'}]}",
            "error: container a: image rootfs:/none/at/all: not found: /none/at/all is no directory\n",
        ),
        (
            "{containers: [{name: a, image: IMAGE, volumeMounts: [{name: v}]}], volumes: [{name: v, nfs: {server: s}}], hostname: a.b}",
            "error: Pod default/p: spec.containers[0].volumeMounts[0].mountPath: is missing\n\
             error: Pod default/p: spec.volumes[0].nfs: volumes of this kind are not supported\n\
             error: Pod default/p: spec.hostname: \"a.b\" is not a name (at most 63 lower-case letters, digits and \"-\")\n",
        ),
        (
            "{containers: [{name: a, image: IMAGE, command: [x]}], volumes: [{name: v, secret: {secretName: s}}]}",
            "error: pod default/p is not ready: volume v: there is no Secret default/s\n",
        ),
        ("{containers: [{name: a, image: IMAGE, command: [/no/such/program]}]}", "/no/such/program"),
    ] {
        let path = world.manifest(&pod("p", spec));
        let told = world.bad(&["run", "-f", &path]);
        assert!(told.contains(expected) || sorted(&told) == sorted(expected), "{told}");
        world.pod(&["rm", "-f", "p"]);
        let left: Vec<_> = fs::read_dir(world.root().join("pods")).expect("a directory").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    world.finish(&[]);
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn of_two_pods_of_one_name_the_second_is_refused_and_the_first_goes_on() {
    let world = World::new();
    world.run(&format!("{{containers: [{{name: a, image: IMAGE, {SLEEP}}}]}}"));
    let before = world.container("a");
    let path =
        world.manifest(&pod("p", &format!("{{containers: [{{name: other, image: IMAGE, {SLEEP}}}]}}")));
    assert_eq!(
        world.bad(&["run", "-f", &path]),
        "error: pod default/p is there already; remove it first (fairlead pod rm)\n"
    );
    assert_eq!(world.container("a"), before);
    assert_eq!(world.bad(&["rm", "p"]), "error: pod default/p runs; stop it first, or remove it by force\n");
    assert_eq!(world.bad(&["inspect", "none"]), "error: there is no pod default/none\n");
    world.finish(&["p"]);
}

#[test]
fn without_a_runtime_the_one_to_install_is_named() {
    let world = World::new();
    let path = world.manifest(&pod("p", &format!("{{containers: [{{name: a, image: IMAGE, {SLEEP}}}]}}")));
    assert_eq!(
        world.bad(&["run", "-f", &path, "--runtime", "/none/crun"]),
        "error: no OCI runtime: install crun or runc, or name one with --runtime (looked for /none/crun)\n"
    );
}
