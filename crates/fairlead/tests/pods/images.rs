//! Images on disk, in every form, and what is wrong with some.

use std::fs;

use pod_images::pack::{Image, Layout};
use serde_json::json;
use testkit::images::{Compression, LayerTar, busybox, docker_archive, image, packed, write_layout};

use crate::world::{World, pod};

fn spec(image: &str) -> String {
    format!(
        "{{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: '{image}', command: [sh, -c, 'cat /greeting; sleep 1000']}}]}}"
    )
}

/// Busybox with a file of its own.
fn greeting(text: &str) -> Image {
    let mut image = busybox("example.com/greeting:1");
    let layer = LayerTar::default().file("greeting", 0o644, text.as_bytes()).end();
    image.layers.push(packed(&layer, Compression::Zstd));
    image
}

#[test]
fn a_pod_runs_from_each_form_of_an_image() {
    let world = World::new();
    let at = |name: &str| world.directory.path().join(name);
    let layout = Layout::of(&greeting("hello\n"));
    write_layout(&layout, &at("layout")).expect("written");
    fs::write(at("oci.tar"), layout.archive().expect("packed")).expect("written");
    fs::write(at("docker.tar"), docker_archive(&greeting("hello\n")).expect("packed")).expect("written");
    for (kind, file) in [("oci", "layout"), ("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        world.run(&spec(&format!("{kind}:{}", at(file).display())));
        world.eventually(
            || (world.good(&["logs", "p"]) == "hello\n").then_some(()),
            || format!("{kind}: {}", world.good(&["logs", "p"])),
        );
        world.good(&["rm", "-f", "p"]);
    }
    // The three forms are one image: its two layers are kept once.
    let layers = fs::read_dir(world.root().join("images/layers")).expect("a directory").count();
    assert_eq!(layers, 2);
    world.finish(&[]);
}

#[test]
fn what_is_wrong_with_an_image_is_said_in_a_line_and_harms_no_other_pod() {
    let world = World::new();
    world.run("{containers: [{name: a, image: IMAGE, command: [sleep, '1000']}]}");
    let before = world.container("a");
    let at = |name: &str| world.directory.path().join(name);
    let bad = |form: &str| {
        let path = world.manifest(&pod("bad", &spec(form)));
        let told = world.bad(&["run", "-f", &path]);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(!world.root().join("pods/default_bad").exists());
        told
    };
    let here = world.directory.path().display().to_string();

    let told = bad(&format!("oci-archive:{here}/none.tar"));
    assert!(
        told.starts_with(&format!("error: container a: image oci-archive:{here}/none.tar: not found")),
        "{told}"
    );

    let mut files = Layout::of(&greeting("hello\n")).files();
    let (_, blob) =
        files.iter_mut().find(|(_, bytes)| bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])).expect("zstd");
    let middle = blob.len() / 2;
    blob[middle] ^= 1;
    for (path, bytes) in &files {
        let path = at("changed").join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    let told = bad(&format!("oci:{here}/changed"));
    assert!(told.contains("should have the digest sha256:") && told.contains(" and has sha256:"), "{told}");

    let escaping = LayerTar::default().file("../../escaped", 0o644, b"x").end();
    let hostile =
        image("example.com/bad:1", json!({ "Cmd": ["sh"] }), vec![packed(&escaping, Compression::Gzip)]);
    fs::write(at("hostile.tar"), Layout::of(&hostile).archive().expect("packed")).expect("written");
    let told = bad(&format!("oci-archive:{here}/hostile.tar"));
    assert!(told.contains("../../escaped") && told.contains("leads out of"), "{told}");

    assert_eq!(world.container("a"), before);
    world.finish(&["p"]);
}
