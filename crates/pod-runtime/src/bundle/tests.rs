use std::fs;
use std::path::Path;

use manifest_documents::Syntax;
use pod_manifests::{Container, Manifests};
use serde_json::{Value, json};

use super::*;

fn container(fields: &str) -> Container {
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: a, image: i, {fields}}}]}}"
    );
    let mut manifests = Manifests::default();
    manifests.read(Syntax::Yaml, &yaml).expect("YAML");
    assert_eq!(manifests.refused, []);
    manifests.pods.remove(0).spec.containers.remove(0)
}

fn configured(container: &Container, image: &Config, rootfs: &Path) -> Result<Value, PodError> {
    config(&Parts {
        container,
        image,
        rootfs,
        environment: vec![("A".into(), "own".into())],
        arguments: vec!["run".into()],
        namespaces: vec![("network", Some("/ns/net".into())), ("mount", None)],
        cgroup: "/fairlead/p/a".into(),
        ids: None,
        mounts: vec![
            Bind { from: "/v/deep".into(), to: "/data/deep".into(), writing: Leave::Refused },
            Bind { from: "/v".into(), to: "/data".into(), writing: Leave::Given },
        ],
    })
}

fn of(fields: &str) -> Value {
    configured(&container(fields), &Config::default(), Path::new("/none")).expect("a configuration")
}

#[test]
fn a_container_is_walled_in_unless_it_is_privileged() {
    let usual = of("");
    assert_eq!(usual["linux"]["maskedPaths"].as_array().map(Vec::len), Some(11));
    assert_eq!(usual["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(usual["linux"]["resources"]["devices"], json!([{"allow": false, "access": "rwm"}]));
    let has = |config: &Value, name: &str| {
        config["process"]["capabilities"]["bounding"].as_array().expect("a list").contains(&name.into())
    };
    assert!(has(&usual, "CAP_CHOWN") && !has(&usual, "CAP_SYS_ADMIN"));
    let privileged = of("securityContext: {privileged: true}");
    assert_eq!(privileged["linux"]["maskedPaths"], json!([]));
    assert_eq!(privileged["linux"]["seccomp"], Value::Null);
    assert!(has(&privileged, "CAP_SYS_ADMIN"));
}

#[test]
fn capabilities_are_the_usual_ones_with_more_and_without_some() {
    for (fields, expected) in [
        ("add: [NET_ADMIN], drop: [ALL]", &["CAP_NET_ADMIN"][..]),
        ("drop: [ALL]", &[]),
        ("add: [CAP_KILL], drop: [ALL]", &["CAP_KILL"]),
    ] {
        let config = of(&format!("securityContext: {{capabilities: {{{fields}}}}}"));
        assert_eq!(config["process"]["capabilities"]["bounding"], json!(expected), "{fields}");
    }
    let wrong = container("securityContext: {capabilities: {add: [FLY]}}");
    let error = configured(&wrong, &Config::default(), Path::new("/none")).expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "container a: securityContext.capabilities: there is no capability \"FLY\""
    );
}

#[test]
fn a_filter_lets_through_what_capabilities_are_for() {
    let rules = |config: &Value| config["linux"]["seccomp"]["syscalls"].to_string();
    assert!(!rules(&of("")).contains("\"mount\""));
    assert!(rules(&of("securityContext: {capabilities: {add: [SYS_ADMIN]}}")).contains("\"mount\""));
}

#[test]
fn mounts_come_after_what_they_are_inside_of() {
    let config = of("");
    let places: Vec<_> =
        config["mounts"].as_array().expect("mounts").iter().map(|one| one["destination"].as_str()).collect();
    let at = |place| places.iter().position(|other| *other == Some(place)).expect("it is there");
    assert!(at("/data") < at("/data/deep"));
    let deep = &config["mounts"][at("/data/deep")];
    assert_eq!(deep["options"], json!(["rbind", "rprivate", "ro"]));
}

#[test]
fn what_is_run_is_the_manifests_else_the_images() {
    let words =
        |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let image = Config { entrypoint: words("entry"), cmd: words("usual"), ..Config::default() };
    for (fields, expected) in [
        ("", "entry usual"),
        ("args: [more]", "entry more"),
        ("command: [own]", "own"),
        ("command: [own, $(A), $$(A)], args: [x]", "own own-value $(A) x"),
    ] {
        let variables = [("A".to_owned(), "own-value".to_owned())];
        let found = arguments(&container(fields), &image, &variables).expect("there is something");
        assert_eq!(found, words(expected), "{fields}");
    }
    let nothing = arguments(&container(""), &Config::default(), &[]).expect_err("nothing to run");
    assert!(nothing.to_string().contains("container a: neither"), "{nothing}");
}

#[test]
fn users_come_from_the_manifest_the_image_or_its_tables() {
    let directory = tempfile::tempdir().expect("a directory");
    let rootfs = directory.path();
    fs::create_dir(rootfs.join("etc")).expect("made");
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/:/sh\nweb:x:33:44::/:/sh\n").expect("written");
    fs::write(rootfs.join("etc/group"), "www:x:55:web,other\nmore:x:66:\n").expect("written");
    for (fields, image, expected) in [
        ("", "", Ok((0, 0, vec![]))),
        ("", "web", Ok((33, 44, vec![55]))),
        ("", "web:more", Ok((33, 66, vec![55]))),
        ("", "7:8", Ok((7, 8, vec![]))),
        ("securityContext: {runAsUser: 33}", "root", Ok((33, 44, vec![55]))),
        ("securityContext: {runAsUser: 5, runAsGroup: 6}", "", Ok((5, 6, vec![]))),
        ("", "none", Err("its image wants user \"none\", who is not in its /etc/passwd")),
        (
            "securityContext: {runAsNonRoot: true}",
            "",
            Err("securityContext.runAsNonRoot is true, and it would run as root"),
        ),
    ] {
        let found = User::of(&container(fields).security, image, rootfs);
        let found = found.map(|user| (user.uid, user.gid, user.groups));
        assert_eq!(found, expected.map_err(str::to_owned), "{fields} {image}");
    }
}
