//! What a container sees of an image.

use std::fs;

use pod_images::pack::Layout;
use pod_images::{Config, Digest};
use serde_json::json;
use testkit::images::{
    Compression, Kind, LayerTar, TarEntry, busybox, busybox_root, compressed, docker_archive, image, packed,
    write_layout,
};

use crate::world::{World, of_layers};

fn file(path: &str, text: &str) -> LayerTar {
    LayerTar::default().file(path, 0o644, text.as_bytes())
}

#[test]
fn every_form_of_an_image_is_the_same_image() {
    let world = World::new();
    let config = json!({
        "Entrypoint": ["/app"], "Cmd": null, "Env": ["A=1"], "WorkingDir": "/srv", "User": "app:10",
        "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "Volumes": { "/data": {} }, "StopSignal": "SIGQUIT",
        "Labels": { "of": "test" },
    });
    let layers = vec![
        packed(&file("app", "one").file("old", 0o644, b"").end(), Compression::Gzip),
        packed(&file("app", "two").whiteout("old").end(), Compression::Zstd),
        packed(&file("new", "").end(), Compression::None),
    ];
    let image = image("example.com/app:v1", config, layers);
    let mut layout = Layout::default();
    let digest = layout.add(&image);
    write_layout(&layout, &world.path("layout")).expect("write");
    let archive = layout.archive().expect("an archive");
    world.file("oci.tar", &archive);
    world.file("oci.tar.gz", &compressed(&archive, Compression::Gzip));
    let docker = docker_archive(&image).expect("an archive");
    world.file("docker.tar", &docker);
    world.file("docker.tar.zst", &compressed(&docker, Compression::Zstd));

    let forms = [
        ("oci", "layout"),
        ("oci", "layout:v1"),
        ("oci", "layout:example.com-app"),
        ("oci-archive", "oci.tar"),
        ("oci-archive", "oci.tar.gz"),
        ("docker-archive", "docker.tar"),
        ("docker-archive", "docker.tar.zst"),
    ];
    for (kind, name) in forms {
        if name.ends_with("com-app") {
            assert!(world.refusal(kind, name).contains("no tag"), "{name}");
            continue;
        }
        let found = world.ensure(kind, name).unwrap_or_else(|error| panic!("{kind}:{name}: {error:?}"));
        let expected =
            if kind == "docker-archive" { Digest::of(&image.config_blob()) } else { digest.clone() };
        assert_eq!(found.digest, Some(expected));
        assert_eq!(found.layers.len(), 3);
        let config = Config {
            entrypoint: vec!["/app".to_owned()],
            cmd: Vec::new(),
            env: vec!["A=1".to_owned()],
            working_dir: "/srv".to_owned(),
            user: "app:10".to_owned(),
            exposed_ports: vec!["53/udp".to_owned(), "80/tcp".to_owned()],
            volumes: vec!["/data".to_owned()],
            stop_signal: Some("SIGQUIT".to_owned()),
            labels: [("of".to_owned(), "test".to_owned())].into(),
        };
        assert_eq!(found.config, config);
        assert_eq!(world.seen(&found, "ls; cat app"), "app\nnew\ntwo");
    }
    assert_eq!(world.kept("layers"), 3, "each layer is kept once");
    assert_eq!(world.kept("scratch"), 0);
}

#[test]
fn a_shell_runs_in_an_image_and_in_a_root_file_system() {
    let world = World::new();
    let archive = Layout::of(&busybox("busybox:1")).archive().expect("an archive");
    world.file("busybox.tar", &archive);
    fs::create_dir(world.path("root")).expect("make a directory");
    busybox_root(&world.path("root"));
    for (kind, name) in [("oci-archive", "busybox.tar"), ("rootfs", "root")] {
        let image = world.ensure(kind, name).expect("an image");
        let seen = world.seen(
            &image,
            "echo mark > etc/mark; chroot . /bin/sh -c 'id -un; cat /etc/mark; stat -c %a /tmp'",
        );
        assert_eq!(seen, "root\nmark\n1777\n");
    }
    assert!(!world.path("root/etc/mark").exists(), "what a container writes stays its own");
}

#[test]
fn a_layer_hides_what_lies_below_and_nothing_else() {
    let world = World::new();
    let below = LayerTar::default()
        .directory("a", 0o755)
        .file("a/one", 0o644, b"below")
        .file("a/two", 0o644, b"below")
        .directory("b", 0o755)
        .file("b/one", 0o644, b"below")
        .file("b/two", 0o644, b"below")
        .file("c/one", 0o644, b"below")
        .file("d", 0o644, b"below")
        .file("e/one", 0o644, b"below")
        .file("f", 0o644, b"below");
    let above = LayerTar::default()
        .whiteout("a/one")
        .file("b/three", 0o644, b"above")
        .opaque("b")
        .whiteout("c")
        .directory("c", 0o755)
        .file("c/two", 0o644, b"above")
        .whiteout("d")
        .file("d/inside", 0o644, b"above")
        .file("e", 0o644, b"above")
        .whiteout("never-there")
        .file("f", 0o644, b"above")
        .whiteout("f");
    let image = world.of_layers(vec![below, above]).expect("an image");
    let seen = world.seen(&image, "LC_ALL=C find . -type f | sort | xargs grep .");
    let expected = "./a/two:below\n./b/three:above\n./c/two:above\n./d/inside:above\n./e:above\n./f:above\n";
    assert_eq!(seen, expected);
    assert_eq!(world.seen(&image, "LC_ALL=C ls"), "a\nb\nc\nd\ne\nf\n");
}

#[test]
fn a_lowest_layer_shows_no_whiteouts() {
    let world = World::new();
    let layer = file("here", "").whiteout("gone").directory("a", 0o755).whiteout("a/gone").opaque("a");
    let image = world.of_layers(vec![layer]).expect("an image");
    assert_eq!(world.seen(&image, "ls -A . a"), ".:\na\nhere\n\na:\n");
}

#[test]
fn owners_modes_times_and_attributes_are_kept() {
    let world = World::new();
    let entry = |path, kind, mode| TarEntry {
        owner: (1000, 1001),
        modified: 86_400,
        ..TarEntry::new(path, kind, mode)
    };
    // cap_net_raw=ep, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let attributes: [(&str, &[u8]); 3] = [
        ("security.capability", &capability),
        ("trusted.overlay.redirect", b"/etc"),
        ("user.overlay.opaque", b"y"),
    ];
    let layer = LayerTar::default()
        .entry(&entry("./", Kind::Directory, 0o711))
        .entry(&entry("bin", Kind::Directory, 0o2750))
        .entry(&TarEntry { attributes: &attributes, ..entry("bin/ping", Kind::File(b"ping"), 0o4755) })
        .entry(&entry("bin/link", Kind::Symlink("ping"), 0o777))
        .hard_link("bin/same", "bin/ping")
        .entry(&entry("bin/pipe", Kind::Fifo, 0o620))
        .entry(&entry("bin/null", Kind::Character(1, 3), 0o666))
        .entry(&entry("bin/whiteout", Kind::Character(0, 0), 0o666))
        .entry(&entry("bin/disk", Kind::Block(8, 0), 0o666));
    let image = world.of_layers(vec![layer]).expect("an image");
    let layer = image.layers[0].display();
    let seen = world.seen(&image, &format!("cd {layer}; stat -c '%A %u %g %Y %h %n' . bin bin/*"));
    let expected = "drwx--x--x 1000 1001 86400 3 .\ndrwxr-s--- 1000 1001 86400 2 bin\n\
                    lrwxrwxrwx 1000 1001 86400 1 bin/link\n\
                    -rwsr-xr-x 1000 1001 86400 2 bin/ping\nprw--w---- 1000 1001 86400 1 bin/pipe\n\
                    -rwsr-xr-x 1000 1001 86400 2 bin/same\n";
    assert_eq!(seen, expected);
    let mut names = Vec::with_capacity(4096);
    let ping = image.layers[0].join("bin/ping");
    rustix::fs::listxattr(&ping, rustix::buffer::spare_capacity(&mut names)).expect("its attributes");
    assert_eq!(String::from_utf8_lossy(&names), "security.capability\0");
}

#[test]
fn a_directory_that_no_entry_describes_is_as_it_is_below() {
    let world = World::new();
    let below = LayerTar::default()
        .entry(&TarEntry { owner: (7, 8), ..TarEntry::new("tmp", Kind::Directory, 0o1777) })
        .directory("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .symlink("absolute", "/usr");
    let above = file("tmp/a/b", "").file("lib/library", 0o644, b"").file("absolute/lib/other", 0o644, b"");
    let image = world.of_layers(vec![below, above]).expect("an image");
    let seen = world.seen(&image, "stat -c '%a %u %g %n' tmp tmp/a; ls -F . usr/lib");
    assert_eq!(
        seen,
        "1777 7 8 tmp\n755 0 0 tmp/a\n.:\nabsolute@\nlib@\ntmp/\nusr/\n\nusr/lib:\nlibrary\nother\n"
    );
}

#[test]
fn long_paths_and_many_layers() {
    let world = World::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let layers = (0..127)
        .map(|number| file(&format!("{number}"), "").file(&long, 0o644, number.to_string().as_bytes()));
    let image = world.of_layers(layers.collect()).expect("an image");
    assert_eq!(world.seen(&image, &format!("ls | wc -l; cat {long}")), "128\n126");
    let image = of_layers((0..128).map(|_| LayerTar::default()).collect());
    world.file("many.tar", &Layout::of(&image).archive().expect("an archive"));
    assert_eq!(
        world.refusal("oci-archive", "many.tar"),
        "the manifest: has 128 layers: there must be 1 to 127"
    );
}
