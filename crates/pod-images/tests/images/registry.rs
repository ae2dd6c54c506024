//! Debian's docker-registry on the loopback of a network namespace, with images that were pushed to it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kernel_io::namespaces::Namespaces;
use kernel_io::netns::{Loopback, Netns};
use kernel_io::process::{Launch, Process, Signal};
use pod_images::pack::{Image as Packed, Layout};
use pod_images::{Credentials, Digest, Image, ImageError, PullPolicy, Reference, Removed, Store};
use serde_json::{Value, json};
use testkit::debian;
use testkit::images::{Compression, LayerTar, busybox, image, packed};

use crate::world::{World, told};

const PORT: u16 = 5000;
/// user and password, as `htpasswd -B` writes them.
const HTPASSWD: &str = "user:$2b$04$YUHI0lXUPH79tr6qzmzs3uxF0yhBWd4.uzK7oGZJh8djD5TCs.HuW\n";
/// The same, as docker sends them.
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

struct Running {
    world: World,
    netns: Netns,
    process: Process,
    basic: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    ToAll,
    ToUsers,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.signal(Signal::KILL);
        let _ = self.process.wait_for(Duration::from_secs(10));
    }
}

impl Running {
    fn new(open: Open) -> Self {
        let world = World::new();
        let netns = Netns::create(Loopback::Up).expect("a network namespace");
        let auth = if open == Open::ToUsers {
            let path = world.file("htpasswd", HTPASSWD.as_bytes());
            json!({ "htpasswd": { "realm": "test", "path": path } })
        } else {
            json!({})
        };
        let config = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": world.path("registry") } },
            "http": { "addr": format!("127.0.0.1:{PORT}"), "secret": "test" },
            "auth": auth,
        });
        let config = world.file("config.json", config.to_string().as_bytes());
        let mut registry = Command::new(debian::unpacked("docker-registry").join("usr/bin/docker-registry"));
        registry
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("OTEL_TRACES_EXPORTER", "none");
        let inside = Namespaces::network(&netns).expect("its namespaces");
        let started =
            Launch::new(registry).joining(inside).dying_with_us().start().expect("start docker-registry");
        let basic = if open == Open::ToUsers { BASIC } else { "" };
        let running = Self { world, netns, process: started.process, basic };
        let deadline = Instant::now() + Duration::from_secs(30);
        while running.netns.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))).expect("enter").is_err() {
            assert!(
                Instant::now() < deadline && running.process.ended().is_none(),
                "the registry does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// Pushes all blobs of a layout, then its manifests, and for the tag an index of them.
    fn push(&self, repository: &str, tag: &str, layout: &Layout) -> Digest {
        let files = layout.files();
        let index: Value = serde_json::from_slice(&files["index.json"]).expect("an index");
        let manifests = index["manifests"].as_array().expect("manifests");
        let digests: Vec<&str> =
            manifests.iter().filter_map(|manifest| manifest["digest"].as_str()).collect();
        for (path, bytes) in &files {
            let Some(digest) = path.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}")) else {
                continue;
            };
            let (status, headers) = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
            assert_eq!(status, 202, "{headers}");
            let location =
                headers.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a location");
            let path = location.trim_start_matches("http://").split_once('/').expect("a path").1;
            let (status, told) =
                self.ask("PUT", &format!("/{path}&digest={digest}"), "application/octet-stream", bytes);
            assert_eq!(status, 201, "{told}");
        }
        let kind = |bytes: &[u8]| {
            let document: Value = serde_json::from_slice(bytes).expect("a document");
            document["mediaType"].as_str().expect("its type").to_owned()
        };
        let put = |name: &str, bytes: &[u8]| {
            let (status, told) =
                self.ask("PUT", &format!("/v2/{repository}/manifests/{name}"), &kind(bytes), bytes);
            assert_eq!(status, 201, "{told}");
            Digest::of(bytes)
        };
        for digest in &digests {
            put(digest, &files[&format!("blobs/{}", digest.replace(':', "/"))]);
        }
        match digests[..] {
            [only] => put(tag, &files[&format!("blobs/{}", only.replace(':', "/"))]),
            _ => put(tag, &files["index.json"]),
        }
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let answer = self.netns.run(|| -> std::io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
            let authorization = if self.basic.is_empty() { "X-None" } else { "Authorization" };
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n{authorization}: {}\r\nContent-Type: {kind}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                self.basic,
                body.len()
            )?;
            stream.write_all(body)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).replace('\r', ""))
        });
        let answer = answer.expect("enter the namespace").expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, answer)
    }

    fn pull(&self, image: &str, policy: PullPolicy) -> Result<Image, ImageError> {
        self.pull_into(&self.world.store, image, policy)
    }

    fn pull_into(&self, store: &Store, image: &str, policy: PullPolicy) -> Result<Image, ImageError> {
        let reference = self.reference(image);
        self.netns.run(|| store.ensure(&reference, policy)).expect("enter the namespace")
    }

    #[expect(clippy::unused_self, reason = "the registry's name is its own")]
    fn reference(&self, image: &str) -> Reference {
        format!("127.0.0.1:{PORT}/{image}").parse().expect("a reference")
    }
}

fn app(content: &str) -> Packed {
    let tar = LayerTar::default().file("app", 0o755, content.as_bytes()).end();
    image("app", json!({ "Entrypoint": ["/app"] }), vec![packed(&tar, Compression::Zstd)])
}

#[test]
fn an_image_is_pulled_once_and_again_when_its_tag_moves() {
    let registry = Running::new(Open::ToAll);
    let first = registry.push("team/app", "v1", &Layout::of(&app("one")));
    let never = registry.pull("team/app:v1", PullPolicy::Never).expect_err("it was not pulled");
    assert_eq!(told(&never), "is not here, and the pull policy is Never");

    let image = registry.pull("team/app:v1", PullPolicy::IfNotPresent).expect("an image");
    assert_eq!((image.digest.as_ref(), &*image.config.entrypoint), (Some(&first), &["/app".to_owned()][..]));
    assert_eq!(registry.world.seen(&image, "cat app"), "one");
    assert_eq!(registry.world.kept("scratch"), 0);

    let second = registry.push("team/app", "v1", &Layout::of(&app("two")));
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        assert_eq!(registry.pull("team/app:v1", policy).expect("an image").digest, Some(first.clone()));
    }
    let image = registry.pull("team/app:v1", PullPolicy::Always).expect("an image");
    assert_eq!((image.digest.as_ref(), &*registry.world.seen(&image, "cat app")), (Some(&second), "two"));
    let image = registry.pull(&format!("team/app@{first}"), PullPolicy::IfNotPresent).expect("an image");
    assert_eq!(registry.world.seen(&image, "cat app"), "one");

    let removed = |name: &str| registry.world.store.remove(&registry.reference(name)).expect("removed");
    assert_eq!(registry.world.kept("layers"), 2);
    assert_eq!((removed("team/app:v1"), registry.world.kept("layers")), (Removed::Gone, 1));
    assert_eq!(removed("team/app:v1"), Removed::NeverThere);
}

#[test]
fn the_image_for_this_machine_is_chosen() {
    let registry = Running::new(Open::ToAll);
    let mut layout = Layout::default();
    let mut other = app("other");
    "s390x".clone_into(&mut other.architecture);
    layout.add(&other);
    let ours = layout.add(&busybox("busybox"));
    registry.push("busybox", "latest", &layout);
    let image = registry.pull("busybox", PullPolicy::IfNotPresent).expect("an image");
    assert_eq!(image.digest, Some(ours));
    assert_eq!(registry.world.seen(&image, "chroot . /bin/sh -c 'echo $((6 * 7))'"), "42\n");
}

#[test]
fn what_the_registry_does_not_have() {
    let registry = Running::new(Open::ToAll);
    let pushed = registry.push("app", "v1", &Layout::of(&app("one")));
    let refusal = |image: &str| told(&registry.pull(image, PullPolicy::Always).expect_err("refused"));
    let url = format!("http://127.0.0.1:{PORT}/v2");
    assert_eq!(
        refusal("app:v2"),
        format!("not found: {url}/app/manifests/v2 is not there (MANIFEST_UNKNOWN manifest unknown)")
    );
    // A blob that changed on the registry's disk. It would not give out a manifest that did.
    let files = Layout::of(&app("one")).files();
    let layer =
        files.iter().find(|(_, bytes)| bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])).expect("a layer").0;
    let hex = layer.rsplit('/').next().expect("a name");
    let path = registry
        .world
        .path("registry/docker/registry/v2/blobs/sha256")
        .join(&hex[..2])
        .join(hex)
        .join("data");
    let mut bytes = fs::read(&path).expect("read the blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("write the blob");
    let why = refusal("app:v1");
    assert!(
        why.starts_with(&format!("the layer sha256:{hex} should have the digest sha256:{hex} and has ")),
        "{why}"
    );
    assert_eq!((registry.world.kept("images"), registry.world.kept("layers")), (0, 0), "{pushed}");
}

#[test]
fn who_may_pull() {
    let registry = Running::new(Open::ToUsers);
    registry.push("app", "v1", &Layout::of(&app("one")));
    let store = &registry.world.store;
    let none = registry.pull("app:v1", PullPolicy::Always).expect_err("refused");
    let why = told(&none);
    assert!(
        why.ends_with("; there are no credentials for it") && why.contains(" answers 401 Unauthorized"),
        "{why}"
    );
    let with = |auth: &str| {
        let config = format!(r#"{{"auths": {{"127.0.0.1:{PORT}": {{"auth": "{auth}"}}}}}}"#);
        let credentials = Credentials::of_docker_config(config.as_bytes()).expect("credentials");
        registry.pull_into(&store.clone().with_credentials(credentials), "app:v1", PullPolicy::Always)
    };
    let why = told(&with("dXNlcjp3cm9uZw==").expect_err("refused"));
    assert!(why.contains(" answers 401 Unauthorized") && !why.contains("there are no credentials"), "{why}");
    assert_eq!(registry.world.seen(&with("dXNlcjpwYXNzd29yZA==").expect("an image"), "cat app"), "one");
}

#[test]
fn nobody_there() {
    let world = World::new();
    let netns = Netns::create(Loopback::Up).expect("a network namespace");
    let reference = "localhost:5000/app".parse().expect("a reference");
    let refused =
        netns.run(|| world.store.ensure(&reference, PullPolicy::Always)).expect("enter the namespace");
    let why = told(&refused.expect_err("nobody listens"));
    assert!(why.starts_with("cannot reach http://localhost:5000/v2/app/manifests/latest: "), "{why}");
    assert!(why.to_lowercase().contains("connection refused"), "{why}");
}
