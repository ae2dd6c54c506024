//! What the store keeps, and for how long.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pod_images::pack::Layout;
use pod_images::{PullPolicy, Reference, Removed, Store};
use testkit::images::LayerTar;

use crate::world::{World, of_layers};

/// Tells the test that is started as a process of its own where to work.
const ROOT: &str = "POD_IMAGES_TEST_ROOT";
const LAYERS: usize = 4;
const FILES: usize = 200;

/// A layer of many files, so that it takes a while.
fn layer(number: usize) -> LayerTar {
    let tar = LayerTar::default().directory("files", 0o755);
    (0..FILES).fold(tar, |tar, file| tar.file(&format!("files/{number}-{file}"), 0o644, &[b'x'; 1000]))
}

fn archive(path: &Path, layers: impl Iterator<Item = usize>) -> Reference {
    let image = of_layers(layers.map(layer).collect());
    fs::write(path, Layout::of(&image).archive().expect("an archive")).expect("write it");
    format!("oci-archive:{}", path.display()).parse().expect("a reference")
}

fn files(layer: &Path) -> usize {
    fs::read_dir(layer.join("files")).expect("list a layer").count()
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).expect("list it").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn many_at_once_make_each_layer_once() {
    let world = World::new();
    let root = world.path("store");
    let references: Vec<Reference> =
        (1..=LAYERS).map(|count| archive(&world.path(&format!("{count}.tar")), 0..count)).collect();
    let images: Vec<_> = std::thread::scope(|scope| {
        let ensure =
            |reference| Store::open(&root).and_then(|store| store.ensure(reference, PullPolicy::Always));
        let at_once: Vec<_> = references.iter().cycle().take(4 * LAYERS).collect();
        let threads: Vec<_> =
            at_once.into_iter().map(|reference| scope.spawn(move || ensure(reference))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic").expect("an image")).collect()
    });
    for image in images {
        assert!(image.layers.iter().all(|layer| files(layer) == FILES), "{image:?}");
    }
    assert_eq!((world.kept("layers"), world.kept("images"), world.kept("scratch")), (LAYERS, LAYERS, 0));
}

#[test]
fn a_layer_goes_with_its_last_image() {
    let world = World::new();
    let one = archive(&world.path("one.tar"), 0..2);
    let two = archive(&world.path("two.tar"), 0..3);
    for reference in [&one, &two] {
        world.store.ensure(reference, PullPolicy::Never).expect("what is on disk needs no pull");
    }
    let names = BTreeSet::from([one.to_string(), two.to_string()]);
    assert_eq!((world.store.images().expect("their names"), world.kept("layers")), (names, 3));
    assert_eq!((world.store.remove(&two).expect("removed"), world.kept("layers")), (Removed::Gone, 2));
    assert_eq!((world.store.remove(&two).expect("nothing"), world.kept("layers")), (Removed::NeverThere, 2));
    assert_eq!((world.store.remove(&one).expect("removed"), world.kept("layers")), (Removed::Gone, 0));
    assert_eq!((world.store.images().expect("their names"), world.kept("scratch")), (BTreeSet::new(), 0));
}

#[test]
fn a_layer_that_is_lost_is_made_again() {
    let world = World::new();
    let reference = archive(&world.path("one.tar"), 0..3);
    let before = world.store.ensure(&reference, PullPolicy::Never).expect("an image");
    fs::remove_dir_all(&before.layers[1]).expect("lose a layer");
    fs::write(listed(&world.path("store/images"))[0].as_path(), "half a rec").expect("spoil a record");
    let again = world.store.ensure(&reference, PullPolicy::Never).expect("an image");
    assert_eq!(again, before);
    assert_eq!(files(&again.layers[1]), FILES);
}

/// Not a test: the process that `what_a_killed_process_leaves_is_whole` kills.
#[test]
fn a_process_to_be_killed() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else { return };
    let reference = format!("oci-archive:{}", root.join("image.tar").display()).parse().expect("a reference");
    let store = Store::open(&root.join("store")).expect("a store");
    store.ensure(&reference, PullPolicy::Always).expect("an image");
}

#[test]
fn what_a_killed_process_leaves_is_whole() {
    let world = World::new();
    let root = world.path("store");
    let reference = archive(&world.path("image.tar"), 0..LAYERS);
    let mut killed = 0;
    for made in 0..LAYERS {
        let mut process = Command::new(std::env::current_exe().expect("this test"));
        process.args(["--exact", "store::a_process_to_be_killed"]).env(ROOT, world.directory.path());
        let mut process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start it");
        // It is killed amid a layer: one more than there were.
        let is_amid = || world.kept("layers") >= made && world.kept("scratch") > 0;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_amid() && process.try_wait().expect("wait for it").is_none() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        process.kill().expect("kill it");
        killed += usize::from(!process.wait().expect("wait for it").success());
        let layers = listed(&root.join("layers"));
        assert!(layers.iter().all(|layer| files(layer) == FILES), "after {made} layers: {layers:?}");
        assert!(
            listed(&root.join("images")).iter().all(|record| fs::read(record).expect("read").ends_with(b"}"))
        );
    }
    assert!(killed > 0, "each process was faster than its end");
    let store = Store::open(&root).expect("a store");
    assert_eq!(world.kept("scratch"), 0, "what was left is thrown away");
    let image = store.ensure(&reference, PullPolicy::Never).expect("an image");
    assert!(image.layers.iter().all(|layer| files(layer) == FILES));
    assert_eq!((image.layers.len(), world.kept("layers"), world.kept("scratch")), (LAYERS, LAYERS, 0));
}
