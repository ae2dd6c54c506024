//! What an archive holds, and that it holds it every time.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use super::{Image, Layer, Layout, tar_of};
use crate::Digest;

fn archive() -> Vec<u8> {
    let layer = tar_of([("pause", 0o755, b"program".as_slice())].into_iter()).expect("a layer");
    let image = Image {
        name: "fairlead.dev/pause:1".to_owned(),
        architecture: "amd64".to_owned(),
        config: json!({ "User": "65535:65535", "Entrypoint": ["/pause"] }),
        layers: vec![Layer::of_tar(layer)],
    };
    Layout::of(&image).archive().expect("an archive")
}

/// The files of an archive, each with mode and owners and time in front.
fn contents(archive: &[u8]) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive");
    let file = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        let (mode, uid, gid, time) = (header.mode(), header.uid(), header.gid(), header.mtime());
        let about = format!("{:o} {uid:?} {gid:?} {time:?}", mode.expect("a mode"));
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        (path, (about, bytes))
    };
    entries.map(file).collect()
}

fn json_of(files: &BTreeMap<String, (String, Vec<u8>)>, path: &str) -> Value {
    serde_json::from_slice(&files[path].1).expect("JSON")
}

fn blob(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().expect("a digest");
    format!("blobs/{}", digest.replace(':', "/"))
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    assert_eq!(archive(), archive());
}

#[test]
fn every_blob_has_the_digest_of_its_name() {
    let files = contents(&archive());
    let blobs: Vec<_> =
        files.iter().filter_map(|(path, file)| Some((path.strip_prefix("blobs/sha256/")?, file))).collect();
    assert_eq!(blobs.len(), 3);
    for (name, (_, bytes)) in blobs {
        assert_eq!(name, Digest::of(bytes).hexadecimal());
    }
}

#[test]
fn the_index_leads_to_one_layer_with_one_file() {
    let files = contents(&archive());
    assert_eq!(json_of(&files, "oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = json_of(&files, "index.json");
    let named = &index["manifests"][0];
    assert_eq!(named["annotations"]["io.containerd.image.name"], "fairlead.dev/pause:1");
    assert_eq!(named["platform"], json!({ "architecture": "amd64", "os": "linux" }));

    let manifest = json_of(&files, &blob(named));
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
    let layer = &manifest["layers"][0];
    assert_eq!(layer["size"], files[&blob(layer)].1.len());

    let config = json_of(&files, &blob(&manifest["config"]));
    assert_eq!(config["config"], json!({ "User": "65535:65535", "Entrypoint": ["/pause"] }));
    assert_eq!(config["rootfs"]["diff_ids"], json!([layer["digest"]]));
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("amd64")));

    let inside = contents(&files[&blob(layer)].1);
    let expected = ("755 Ok(0) Ok(0) Ok(0)".to_owned(), b"program".to_vec());
    assert_eq!(inside, BTreeMap::from([("pause".to_owned(), expected)]));
}
