use super::*;
use pod_manifests::ObjectName;

fn owner() -> Owner {
    Owner::Deployment(ObjectName { namespace: "default".to_owned(), name: "web".to_owned() })
}

#[test]
fn whoever_fails_is_tried_again_after_longer_and_longer_and_another_version_at_once() {
    let mut troubles = Troubles::default();
    let mut now = Instant::now();
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert!(troubles.may_try(&owner(), "1", now));
        troubles.add(&owner(), "1", "it failed".to_owned(), now);
        // The others that were begun with it.
        troubles.add(&owner(), "1", "it failed".to_owned(), now);
        let until = troubles.0[&owner()].until;
        assert!(!troubles.may_try(&owner(), "1", now) && troubles.may_try(&owner(), "2", now));
        waits.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(troubles.lines().collect::<Vec<_>>(), ["it failed"]);
    troubles.end(&owner());
    assert!(troubles.may_try(&owner(), "1", now) && troubles.lines().next().is_none());
}

#[test]
fn a_line_names_the_object_and_the_field() {
    let pod = Owner::Pod(ObjectName { namespace: "default".to_owned(), name: "web".to_owned() });
    let image = PodError::Image { container: "a".to_owned(), message: "image x: not found".to_owned() };
    for (owner, error, expected) in [
        (&pod, &image, "Pod default/web: spec.containers[a].image: image x: not found"),
        (
            &owner(),
            &image,
            "Deployment default/web: spec.template.spec.containers[a].image: image x: not found",
        ),
        (
            &pod,
            &PodError::Volume { volume: "v".to_owned(), message: "there is no Secret default/s".to_owned() },
            "Pod default/web: spec.volumes[v]: there is no Secret default/s",
        ),
        (
            &pod,
            &PodError::Exists { pod: "default/web".to_owned() },
            "Pod default/web: metadata.name: is the name of a pod that something else has made; remove that first \
             (fairlead pod rm)",
        ),
        (
            &pod,
            &PodError::Sandbox("every address of 10.0.0.0/29 is taken".to_owned()),
            "Pod default/web: every address of 10.0.0.0/29 is taken",
        ),
    ] {
        assert_eq!(line(owner, error), expected);
    }
}
