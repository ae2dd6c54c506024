//! Which texts name which image.

use std::path::PathBuf;

use super::Reference;

fn parsed(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_left_out_is_as_with_docker() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let rows = [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("grafana/loki", "docker.io/grafana/loki:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("Registry/app", "Registry/app:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("quay.io/a/b_c__d--e.f:v1.0-x", "quay.io/a/b_c__d--e.f:v1.0-x"),
        (&format!("app@{digest}"), &format!("docker.io/library/app@{digest}")),
        (&format!("app:v1@{digest}"), &format!("docker.io/library/app:v1@{digest}")),
    ];
    for (text, whole) in rows {
        let reference = parsed(text);
        assert_eq!(reference.to_string(), whole);
        assert_eq!(parsed(whole), reference, "what is printed means the same");
    }
}

#[test]
fn places_on_disk() {
    let path = PathBuf::from;
    let rows = [
        ("oci:/images/app", Reference::Oci { path: path("/images/app"), tag: None }),
        ("oci:images/app:v1", Reference::Oci { path: path("images/app"), tag: Some("v1".to_owned()) }),
        ("oci:/with:colon/app", Reference::Oci { path: path("/with:colon/app"), tag: None }),
        ("oci-archive:app.tar", Reference::OciArchive(path("app.tar"))),
        ("docker-archive:/a/b.tar", Reference::DockerArchive(path("/a/b.tar"))),
        ("rootfs:/", Reference::Rootfs(path("/"))),
    ];
    for (text, expected) in rows {
        assert_eq!(parsed(text), expected);
        assert_eq!(expected.to_string(), text);
    }
}

#[test]
fn what_names_no_image_says_so() {
    let rows = [
        ("", "a repository"),
        ("App", "a repository"),
        ("a//b", "a repository"),
        ("a/../b", "a repository"),
        ("a_", "a repository"),
        ("a___b", "a repository"),
        ("a..b", "a repository"),
        ("host.example/", "a repository"),
        ("a b", "a repository"),
        ("app:", "a tag"),
        ("app:.v1", "a tag"),
        ("app@sha256:12", "the digest"),
        ("host.example:port/app", "the registry"),
        ("host.example:0/app", "the registry"),
        ("-a.example/app", "the registry"),
        ("[::1/app", "the registry"),
        ("oci:", "the path is empty"),
        ("oci:/images/app:", "the tag is empty"),
        ("rootfs:", "the path is empty"),
    ];
    for (text, why) in rows {
        let error = text.parse::<Reference>().expect_err(text).to_string();
        assert!(error.starts_with(&format!("image {text:?}: {why}")), "{error}");
    }
    assert!(format!("example.com/{}", "a".repeat(250)).parse::<Reference>().is_err());
}
