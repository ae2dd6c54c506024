//! What is answered, as clients read it.

use std::time::Duration;

use serde_json::Value;
use service_plan::Family;
use service_watch::Eligibility;

use super::{ProxyHealth, Question, Verdict};

const PATIENCE: Duration = Duration::from_hours(1);

fn asked(health: &ProxyHealth, question: Question) -> (Verdict, Value) {
    let (verdict, report) = health.report(question);
    (verdict, serde_json::to_value(report).expect("JSON"))
}

#[test]
fn a_family_that_has_never_synced_counts_as_well() {
    let health = ProxyHealth::new(Duration::ZERO, None);
    health.queued(Family::V4);
    let (verdict, report) = asked(&health, Question::Proxy);
    assert_eq!(verdict, Verdict::Well);
    assert_eq!((report.get("status"), report.get("nodeEligible")), (None, None));
}

#[test]
fn what_waits_too_long_makes_its_family_unwell_until_it_is_written() {
    let health = ProxyHealth::new(Duration::ZERO, Some(Eligibility::Eligible));
    health.updated(Family::V4);
    health.updated(Family::V6);
    health.queued(Family::V4);
    let (verdict, report) = asked(&health, Question::Proxy);
    assert_eq!((verdict, &report["healthy"]), (Verdict::Unwell, &Value::Bool(false)));
    assert_eq!(report["status"]["IPv4"]["healthy"], false);
    assert_eq!(report["status"]["IPv6"]["healthy"], true);
    assert_eq!(report["lastUpdated"], report["status"]["IPv6"]["lastUpdated"], "the newest one of all");
    health.updated(Family::V4);
    assert_eq!(health.proxy(), Verdict::Well);
}

#[test]
fn only_the_oldest_change_that_waits_counts_and_there_is_time() {
    let health = ProxyHealth::new(PATIENCE, Some(Eligibility::Eligible));
    health.updated(Family::V4);
    health.queued(Family::V4);
    health.queued(Family::V4);
    assert_eq!(asked(&health, Question::Node).0, Verdict::Well);
}

#[test]
fn a_node_that_is_unknown_or_leaves_gets_no_traffic_but_its_proxy_lives() {
    let health = ProxyHealth::new(PATIENCE, None);
    health.updated(Family::V4);
    let expect_refused = || {
        let (verdict, report) = asked(&health, Question::Node);
        assert_eq!(verdict, Verdict::Unwell);
        assert_eq!((&report["healthy"], &report["nodeEligible"]), (&Value::Bool(true), &Value::Bool(false)));
        assert_eq!(asked(&health, Question::Proxy).0, Verdict::Well);
    };
    expect_refused();
    health.node(Eligibility::Eligible);
    let (verdict, report) = asked(&health, Question::Node);
    assert_eq!((verdict, &report["nodeEligible"]), (Verdict::Well, &Value::Bool(true)));
    assert_eq!(report["lastUpdated"], report["currentTime"], "who is well is up to date");
    health.node(Eligibility::Leaving);
    expect_refused();
}

#[test]
fn nobody_who_never_wrote_has_a_time() {
    let health = ProxyHealth::new(PATIENCE, None);
    let (_, report) = asked(&health, Question::Node);
    assert_eq!(report["lastUpdated"], "0001-01-01T00:00:00Z");
}
