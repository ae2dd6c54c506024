//! Images that are not what they should be: one clear line each, and nothing left behind.

use std::fs;

use pod_images::Limits;
use pod_images::pack::{Layer, Layout, architecture, tar_of};
use serde_json::json;
use testkit::images::{
    Compression, Kind, LayerTar, TarEntry, compressed, docker_archive, image, packed, write_layout,
};

use crate::world::{World, of_layers, told};

/// Why an image of these layers is refused; nothing of it may be left, and nothing may have got out.
fn refused(layers: Vec<LayerTar>) -> String {
    refused_by(&World::new(), layers)
}

fn refused_by(world: &World, layers: Vec<LayerTar>) -> String {
    fs::create_dir(world.path("outside")).expect("make a directory");
    fs::write(world.path("outside/secret"), "secret").expect("write a file");
    let error = world.of_layers(layers).expect_err("it is refused");
    assert_eq!((world.kept("images"), world.kept("scratch")), (0, 0), "{error:?}");
    assert_eq!(fs::read_dir(world.path("outside")).expect("list it").count(), 1, "{error:?}");
    assert_eq!(fs::read_to_string(world.path("outside/secret")).expect("read it"), "secret");
    let told = told(&error);
    // The digest of a layer of a test says nothing to a reader.
    let (layer, why) = told.split_once(": ").unwrap_or((&told, ""));
    assert!(layer.starts_with("the layer sha256:"), "{told}");
    why.to_owned()
}

fn file(path: &str) -> LayerTar {
    LayerTar::default().file(path, 0o644, b"bytes")
}

#[test]
fn an_entry_that_leads_out_of_the_layer() {
    for path in ["../outside/file", "a/../../outside/file", "..", "a/..", "/..", ".wh...", "a/.wh..", ".wh."]
    {
        assert_eq!(refused(vec![file(path)]), format!("the entry {path} leads out of the layer"));
    }
    let link = LayerTar::default().hard_link("link", "../outside/secret");
    assert_eq!(refused(vec![link]), "the entry ../outside/secret leads out of the layer");
}

#[test]
fn a_link_to_the_outside_is_a_link_to_the_inside() {
    let world = World::new();
    fs::create_dir(world.path("outside")).expect("make a directory");
    let outside = world.path("outside");
    let outside = outside.to_str().expect("text");
    let layer = LayerTar::default()
        .symlink("absolute", outside)
        .file("absolute/one", 0o644, b"")
        .symlink("upwards", "../../../../../../../../outside")
        .file("upwards/two", 0o644, b"")
        .file("/three", 0o644, b"");
    let image = world.of_layers(vec![layer]).expect("an image");
    assert_eq!(fs::read_dir(outside).expect("list it").count(), 0);
    let seen = world.seen(&image, &format!("ls .{outside} outside three"));
    assert_eq!(seen, format!("three\n\n.{outside}:\none\n\noutside:\ntwo\n"));
}

#[test]
fn a_hard_link_to_what_the_layer_does_not_hold() {
    for target in ["missing", "/etc/passwd", "directory", "link/passwd", "whiteout"] {
        let layer = LayerTar::default()
            .directory("directory", 0o755)
            .symlink("link", "/etc")
            .whiteout("whiteout")
            .hard_link("name", target);
        let why = format!("the entry name is a hard link to {target}, which the layer does not hold");
        assert_eq!(refused(vec![file("whiteout"), layer]), why);
    }
}

#[test]
fn a_path_below_a_file_in_a_circle_or_without_end() {
    assert_eq!(
        refused(vec![file("a").file("a/b", 0o644, b"")]),
        "the entry a/b lies below something that is no directory"
    );
    let circle = LayerTar::default().symlink("a", "b").symlink("b", "a").file("a/c", 0o644, b"");
    let why = "the entry a/c lies too deep or behind too many symbolic links";
    assert_eq!(refused(vec![circle]), why);
    let deep = format!("{}file", "d/".repeat(300));
    let why = format!("the entry {deep} lies too deep or behind too many symbolic links");
    assert_eq!(refused(vec![file(&deep)]), why);
    let long = format!("{}/{}", "d/".repeat(2000), "f".repeat(200));
    assert!(refused(vec![file(&long)]).ends_with(" leads out of the layer"));
}

#[test]
fn a_layer_that_grows_without_end() {
    let limits = Limits { bytes: 1 << 20, entries: 100 };
    let layer = LayerTar::default().file("large", 0o644, &vec![0; 2 << 20]);
    let why = "takes the image above 1048576 bytes when decompressed";
    assert_eq!(refused_by(&World::with_limits(limits), vec![layer]), why);
    let world = World::with_limits(limits);
    let halves = ["one", "two"].map(|name| LayerTar::default().file(name, 0o644, &vec![0; 600 << 10]));
    assert_eq!(refused_by(&world, halves.to_vec()), why);
    let many = (0..101).fold(LayerTar::default(), |tar, number| tar.file(&number.to_string(), 0o644, b""));
    assert_eq!(refused_by(&World::with_limits(limits), vec![many]), "has more than 100 entries");

    // 64 MB that take 64 KB: no more of them than allowed is unpacked.
    let world = World::with_limits(limits);
    let bomb = packed(&LayerTar::default().file("large", 0o644, &vec![0; 64 << 20]).end(), Compression::Gzip);
    let archive = Layout::of(&image("bomb", json!({}), vec![bomb])).archive().expect("an archive");
    world.file("bomb.tar", &archive);
    assert!(world.refusal("oci-archive", "bomb.tar").ends_with(why));
    world.file("bomb.tar.gz", &compressed(&vec![0; 64 << 20], Compression::Gzip));
    let path = world.path("bomb.tar.gz");
    let why = format!("{} has more than 1048576 bytes", path.display());
    assert_eq!(world.refusal("docker-archive", "bomb.tar.gz"), why);
}

#[test]
fn what_no_layer_has() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    header.set_path("sparse").expect("a short path");
    for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
        set(&mut header, 0);
    }
    header.set_mode(0o644);
    header.set_cksum();
    let sparse = LayerTar::default().raw(&header, b"");
    assert_eq!(refused(vec![sparse]), "the entry sparse is of kind 'S', which no layer has");
    let owned = TarEntry { owner: (u64::from(u32::MAX), 0), ..TarEntry::new("file", Kind::File(b""), 0o644) };
    let why = refused(vec![LayerTar::default().entry(&owned)]);
    assert_eq!(why, "cannot set the owner of file: Invalid argument (os error 22)");
}

#[test]
fn a_layer_that_is_no_tar_file() {
    for bytes in [
        b"no tar file".repeat(100),
        vec![1; 512],
        LayerTar::default().file("a", 0o644, &[0; 9000]).end()[..4096].to_vec(),
    ] {
        let world = World::new();
        let image = image("broken", json!({}), vec![packed(&bytes, Compression::Gzip)]);
        world.file("broken.tar", &Layout::of(&image).archive().expect("an archive"));
        let why = world.refusal("oci-archive", "broken.tar");
        assert!(why.contains(": cannot be read: "), "{why}");
        assert_eq!((world.kept("images"), world.kept("layers"), world.kept("scratch")), (0, 0, 0));
    }
}

/// A layout of one image as a directory, with one file of it changed.
fn changed(change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> (World, String) {
    let world = World::new();
    let layer = packed(&file("a").end(), Compression::Gzip);
    let layout = Layout::of(&image("app:v1", json!({}), vec![layer]));
    write_layout(&layout, &world.path("layout")).expect("write the layout");
    for (path, bytes) in layout.files() {
        let kind = match &bytes {
            bytes if bytes.starts_with(&[0x1f, 0x8b]) => "layer",
            bytes if bytes.windows(9).any(|text| text == b"\"rootfs\":") => "configuration",
            bytes if bytes.windows(9).any(|text| text == b"\"config\":") => "manifest",
            _ => "index",
        };
        fs::write(world.path("layout").join(path), change(kind, bytes)).expect("write");
    }
    let told = world.refusal("oci", "layout");
    assert_eq!((world.kept("images"), world.kept("layers"), world.kept("scratch")), (0, 0, 0));
    (world, told)
}

#[test]
fn a_byte_that_is_not_as_promised() {
    for kind in ["layer", "configuration", "manifest"] {
        let (_, why) = changed(|name, mut bytes| {
            if name == kind {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            bytes
        });
        assert!(
            why.starts_with(&format!("the {kind}")) && why.contains(" should have the digest sha256:"),
            "{why}"
        );
        let (_, why) = changed(|name, mut bytes| {
            if name == kind {
                bytes.push(b' ');
            }
            bytes
        });
        assert!(why.starts_with(&format!("the {kind}")) && why.contains(" bytes and has "), "{why}");
    }
}

#[test]
fn a_layer_that_decompresses_to_another() {
    let honest = packed(&file("a").end(), Compression::Gzip);
    let other = packed(&file("b").end(), Compression::Gzip);
    let mixed = image("app", json!({}), vec![Layer { diff_id: honest.diff_id, ..other }]);
    for (kind, archive) in [
        ("oci-archive", Layout::of(&mixed).archive().expect("an archive")),
        ("docker-archive", docker_archive(&mixed).expect("an archive")),
    ] {
        let world = World::new();
        world.file("mixed.tar", &archive);
        let why = world.refusal(kind, "mixed.tar");
        assert!(why.contains(", decompressed, should have the digest sha256:"), "{why}");
        assert_eq!(world.kept("layers"), 0);
    }
}

#[test]
fn an_image_for_other_machines() {
    let world = World::new();
    let mut layout = Layout::default();
    let mut other = of_layers(vec![file("a")]);
    for architecture in ["s390x", "riscv64"] {
        architecture.clone_into(&mut other.architecture);
        layout.add(&other);
    }
    world.file("other.tar", &layout.archive().expect("an archive"));
    let ours = architecture();
    let why = format!("not for linux/{ours}: there is linux/s390x, linux/riscv64");
    assert_eq!(world.refusal("oci-archive", "other.tar"), why);
    world.file("docker.tar", &docker_archive(&other).expect("an archive"));
    let why = format!("not for linux/{ours}: there is linux/riscv64");
    assert_eq!(world.refusal("docker-archive", "docker.tar"), why);

    ours.clone_into(&mut other.architecture);
    let digest = layout.add(&other);
    world.file("all.tar", &layout.archive().expect("an archive"));
    assert_eq!(world.ensure("oci-archive", "all.tar").expect("an image").digest, Some(digest));
}

#[test]
fn what_is_not_there_or_not_clear() {
    let world = World::new();
    let directory = world.directory.path().display().to_string();
    for (kind, name, why) in [
        ("oci", "none", "not found: DIR/none is no directory"),
        ("oci-archive", "none", "not found: there is no DIR/none"),
        ("docker-archive", "store", "not found: DIR/store is no file"),
        ("rootfs", "none", "not found: DIR/none is no directory"),
        ("oci", "store", "not found: there is no DIR/store/index.json"),
    ] {
        assert_eq!(world.refusal(kind, name), why.replace("DIR", &directory));
    }
    let empty = tar_of([("file", 0o644, b"".as_slice())].into_iter()).expect("a tar file");
    world.file("empty.tar", &empty);
    let why = |name| format!("not found: {directory}/empty.tar holds no {name}");
    assert_eq!(world.refusal("oci-archive", "empty.tar"), why("index.json"));
    assert_eq!(world.refusal("docker-archive", "empty.tar"), why("manifest.json"));

    let mut layout = Layout::default();
    for name in ["app:v1", "app:v2"] {
        let mut image = of_layers(vec![file(name)]);
        name.clone_into(&mut image.name);
        layout.add(&image);
    }
    write_layout(&layout, &world.path("two")).expect("write the layout");
    assert_eq!(world.refusal("oci", "two"), "there are several: app:v1, app:v2; name one");
    assert_eq!(world.refusal("oci", "two:v3"), "not found: no tag v3; there is app:v1, app:v2");
    assert!(world.ensure("oci", "two:v2").is_ok());
    let whole = world.ensure("oci", "none").expect_err("it is not there").to_string();
    assert_eq!(whole, format!("image oci:{directory}/none"));
}
