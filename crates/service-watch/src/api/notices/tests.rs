//! What is posted, as the API expects it.

use std::time::{Duration, SystemTime};

use service_plan::ServiceName;

use super::{Importance, LONGEST_NOTE, Notice, Subject, event};

fn notice(subject: Subject, note: &str) -> Notice {
    let (reason, action) = ("Starting", "StartKubeProxy");
    Notice { subject, importance: Importance::Normal, reason, action, note: note.to_owned() }
}

fn then() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(1_791_210_615_123_456)
}

#[test]
fn a_node_has_no_namespace_so_its_events_are_in_the_default_one() {
    let event = event(&notice(Subject::Node("node-1".into()), ""), then());
    assert_eq!(event["metadata"]["namespace"], "default");
    assert_eq!(event["metadata"]["name"], "node-1.18dba8907057b000");
    assert_eq!(event["eventTime"], "2026-10-05T14:30:15.123456Z");
    assert_eq!(event["regarding"], serde_json::json!({"apiVersion": "v1", "kind": "Node", "name": "node-1"}));
    assert_eq!(event["reportingController"], "kube-proxy");
}

#[test]
fn a_services_events_are_beside_it() {
    let event = event(&notice(Subject::Service(ServiceName::new("shop", "web")), "x"), then());
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert_eq!(event["regarding"]["uid"], "shop/web");
}

#[test]
fn a_note_that_is_too_long_is_cut_between_letters() {
    let long = "ü".repeat(LONGEST_NOTE);
    let event = event(&notice(Subject::Node("n".into()), &long), then());
    let note = event["note"].as_str().expect("text");
    assert!(note.len() <= LONGEST_NOTE && note.chars().all(|letter| letter == 'ü'), "{note}");
}
