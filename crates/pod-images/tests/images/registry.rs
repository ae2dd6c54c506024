//! Debian's docker-registry on the loopback of a network namespace, with images that were pushed to it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use kernel_io::netns::{Loopback, Netns};
use pod_images::pack::{Image as Packed, Layout};
use pod_images::{Credentials, Digest, Image, ImageError, PullPolicy, Reference, Removed, Store};
use serde_json::json;
use testkit::images::{Compression, LayerTar, busybox, image, packed};
use testkit::registry::Registry;

use crate::world::{World, told};

const PORT: u16 = 5000;
/// user and password, as `htpasswd -B` writes them.
const HTPASSWD: &str = "user:$2b$04$YUHI0lXUPH79tr6qzmzs3uxF0yhBWd4.uzK7oGZJh8djD5TCs.HuW\n";
/// The same, as docker sends them.
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

struct Running {
    world: World,
    netns: Netns,
    registry: Registry,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    ToAll,
    ToUsers,
}

impl Running {
    fn new(open: Open) -> Self {
        let world = World::new();
        let netns = Netns::create(Loopback::Up).expect("a network namespace");
        let (auth, basic) = if open == Open::ToUsers {
            let path = world.file("htpasswd", HTPASSWD.as_bytes());
            (json!({ "htpasswd": { "realm": "test", "path": path } }), BASIC)
        } else {
            (json!({}), "")
        };
        let at = (Ipv4Addr::LOCALHOST, PORT).into();
        let registry =
            Registry::start(&netns, &world.path("registry"), at, &auth, &json!({})).asked_as(basic);
        Self { world, netns, registry }
    }

    fn push(&self, repository: &str, tag: &str, layout: &Layout) -> Digest {
        self.registry.push(repository, tag, layout)
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

/// Somebody before the registry, who tells what he was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Front {
    /// Passes answers on, but breaks off the first two that are long.
    Breaks,
    /// Says that blobs are elsewhere: at the registry itself.
    Redirects,
}

/// Where the front stands, and how much of a long answer it passes on.
const FRONT: u16 = 5001;
const BROKEN_OFF_AT: usize = 300_000;

impl Front {
    /// Answers the lines in which something was asked, or for a part of it.
    fn stand(self, netns: &Netns) -> Arc<Mutex<Vec<String>>> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, FRONT))).expect("enter");
        let (listener, netns, told) = (listener.expect("listen"), netns.clone(), Arc::clone(&heard));
        thread::spawn(move || {
            let mut breaks = 2;
            for client in listener.incoming() {
                let heard = client.and_then(|client| self.serve(client, &netns, &mut breaks));
                told.lock().expect("nobody panics").extend(heard.unwrap_or_default());
            }
        });
        heard
    }

    /// One request of a connection, which is closed then.
    fn serve(self, mut client: TcpStream, netns: &Netns, breaks: &mut u32) -> io::Result<Vec<String>> {
        let head: Vec<String> = BufReader::new(client.try_clone()?)
            .lines()
            .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
            .collect::<io::Result<_>>()?;
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        if self == Front::Redirects && path.contains("/blobs/") {
            let to = format!("http://127.0.0.1:{PORT}{path}");
            write!(
                client,
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )?;
        } else {
            let mut server = netns.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))).expect("enter")?;
            let kept = head.iter().filter(|line| !line.to_lowercase().starts_with("connection:"));
            let lines: Vec<&str> = kept.map(String::as_str).chain(["Connection: close"]).collect();
            write!(server, "{}\r\n\r\n", lines.join("\r\n"))?;
            let mut answer = Vec::new();
            io::Read::read_to_end(&mut server, &mut answer)?;
            if answer.len() > BROKEN_OFF_AT && *breaks > 0 {
                answer.truncate(BROKEN_OFF_AT);
                *breaks -= 1;
            }
            client.write_all(&answer)?;
        }
        client.shutdown(Shutdown::Both)?;
        Ok(head
            .into_iter()
            .filter(|line| line.starts_with("GET ") || line.to_lowercase().starts_with("range:"))
            .collect())
    }
}

/// An image whose layer is as long as its file.
fn long() -> Packed {
    let mut number = 1_u32;
    let mut byte = || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number.to_be_bytes()[0]
    };
    let bytes: Vec<u8> = (0..1_000_000).map(|_| byte()).collect();
    let tar = LayerTar::default().file("long", 0o644, &bytes).end();
    image("long", json!({}), vec![packed(&tar, Compression::None)])
}

#[test]
fn a_fetch_that_breaks_off_goes_on_where_it_was() {
    let registry = Running::new(Open::ToAll);
    registry.push("long", "v1", &Layout::of(&long()));
    let heard = Front::Breaks.stand(&registry.netns);
    let reference: Reference = format!("127.0.0.1:{FRONT}/long:v1").parse().expect("a reference");
    let pulled = registry.netns.run(|| registry.world.store.ensure(&reference, PullPolicy::Always));
    let image = pulled.expect("enter").expect("an image");
    assert_eq!(registry.world.seen(&image, "wc -c < long"), "1000000\n");
    let heard = heard.lock().expect("nobody panics");
    let ranges: Vec<u64> = heard
        .iter()
        .filter_map(|line| {
            line.to_lowercase().strip_prefix("range: bytes=")?.trim_end_matches('-').parse().ok()
        })
        .collect();
    assert_eq!(ranges.len(), 2, "{heard:?}");
    assert!(ranges.is_sorted() && ranges.iter().all(|from| (200_000..700_000).contains(from)), "{ranges:?}");
}

#[test]
fn a_blob_that_is_elsewhere_is_fetched_there() {
    let registry = Running::new(Open::ToAll);
    registry.push("app", "v1", &Layout::of(&app("one")));
    let heard = Front::Redirects.stand(&registry.netns);
    let reference: Reference = format!("127.0.0.1:{FRONT}/app:v1").parse().expect("a reference");
    let pulled = registry.netns.run(|| registry.world.store.ensure(&reference, PullPolicy::Always));
    assert_eq!(registry.world.seen(&pulled.expect("enter").expect("an image"), "cat app"), "one");
    let blobs = heard.lock().expect("nobody panics").iter().filter(|line| line.contains("/blobs/")).count();
    assert_eq!(blobs, 2, "configuration and layer were asked for here");
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
