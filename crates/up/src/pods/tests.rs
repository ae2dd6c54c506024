use manifest_documents::Syntax;
use pod_manifests::Manifests;

use super::*;

fn named(name: &str) -> ObjectName {
    ObjectName { namespace: "default".to_owned(), name: name.to_owned() }
}

/// A Pod `p` and a Deployment `d` of two, both of revision `new`.
fn wanted() -> Wanted {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: 'rootfs:/x'}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 2, selector: {matchLabels: {a: b}},
 template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: 'rootfs:/x'}]}}}}";
    let mut manifests = Manifests::default();
    manifests.read(Syntax::Yaml, text).expect("good YAML");
    assert_eq!(manifests.refused, []);
    let pod = Arc::new(manifests.pods.pop().expect("a Pod"));
    let deployment = Arc::new(manifests.deployments.pop().expect("a Deployment"));
    Wanted {
        pods: BTreeMap::from([(named("p"), (pod, "new".to_owned()))]),
        deployments: BTreeMap::from([(named("d"), (deployment, "new".to_owned()))]),
    }
}

fn alone(revision: &str, course: Course) -> Present {
    Present { name: named("p"), owner: Owner::Pod(named("p")), revision: revision.to_owned(), course }
}

fn member(name: &str, revision: &str, course: Course) -> Present {
    let owner = Owner::Deployment(named("d"));
    Present { name: named(name), owner, revision: revision.to_owned(), course }
}

/// Actions in short: `+` made, `-` stopped, `x` removed.
fn told(wanted: &Wanted, present: &[Present]) -> String {
    let word = |action| match action {
        Action::Create { owner: Owner::Pod(name) | Owner::Deployment(name), .. } => format!("+{}", name.name),
        Action::Stop(name) => format!("-{}", name.name),
        Action::Remove(name) => format!("x{}", name.name),
    };
    actions(wanted, present).into_iter().map(word).collect::<Vec<_>>().join(" ")
}

const SERVES: Course = Course::Stands(Standing::Available);

#[test]
fn what_is_missing_is_made_and_what_is_not_wanted_goes() {
    let two = [member("d-1", "new", SERVES), member("d-2", "new", SERVES)];
    assert_eq!(told(&wanted(), &[]), "+p +d +d");
    assert_eq!(told(&wanted(), &[&[alone("new", SERVES)], &two[..]].concat()), "");
    assert_eq!(told(&Wanted::default(), &[&[alone("new", SERVES)], &two[..]].concat()), "-p -d-1 -d-2");
}

#[test]
fn a_pod_that_is_another_is_replaced_once_it_is_gone() {
    let two = [member("d-1", "new", SERVES), member("d-2", "new", SERVES)];
    for (course, expected) in [
        (SERVES, "-p"),
        (Course::Leaves, ""),
        (Course::Over(Ending::Itself), "xp"),
        (Course::Over(Ending::Otherwise), "xp"),
    ] {
        assert_eq!(told(&wanted(), &[&[alone("old", course)], &two[..]].concat()), expected, "{course:?}");
    }
}

#[test]
fn a_pod_that_has_done_its_work_stays_and_one_that_could_not_is_made_again() {
    let two = [member("d-1", "new", SERVES), member("d-2", "new", SERVES)];
    for (course, expected) in [(Course::Over(Ending::Itself), ""), (Course::Over(Ending::Otherwise), "xp")] {
        assert_eq!(told(&wanted(), &[&[alone("new", course)], &two[..]].concat()), expected, "{course:?}");
    }
}

#[test]
fn a_deployment_replaces_what_ended_and_does_not_count_what_leaves() {
    let one = alone("new", SERVES);
    let over =
        [one.clone(), member("d-1", "new", SERVES), member("d-2", "new", Course::Over(Ending::Itself))];
    assert_eq!(told(&wanted(), &over), "xd-2 +d");
    let leaves = [one.clone(), member("d-1", "new", SERVES), member("d-2", "new", Course::Leaves)];
    assert_eq!(told(&wanted(), &leaves), "+d");
    let rolls = [one, member("d-1", "old", SERVES), member("d-2", "old", SERVES)];
    assert_eq!(told(&wanted(), &rolls), "+d");
}
