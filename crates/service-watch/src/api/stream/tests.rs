use super::*;
use crate::{Access, Exchanges, NodeNeeds};

#[test]
fn lines_of_a_watch_are_read() {
    let read = |text: &str| serde_json::from_str::<Line<wire::Service>>(text).expect("a line");
    let added =
        read(r#"{"type":"ADDED","object":{"kind":"Service","metadata":{"name":"a","resourceVersion":"7"}}}"#);
    assert!(
        matches!(added, Line::Added(service) if service.metadata.resource_version.as_deref() == Some("7"))
    );
    let bookmark = read(
        r#"{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"9",
            "annotations":{"k8s.io/initial-events-end":"true"}},"spec":{},"status":{"loadBalancer":{}}}}"#,
    );
    let ends_list =
        |line| matches!(line, Line::Bookmark(mark) if mark.metadata.annotations.initial_events_end.is_some());
    assert!(ends_list(bookmark));
    let error = read(
        r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
            "message":"too old resource version","reason":"Expired","code":410}}"#,
    );
    assert!(matches!(error, Line::Error(status) if status.code == 410));
}

#[test]
fn an_error_says_each_cause_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Told {
        said: &'static str,
        source: io::Error,
    }
    let refused = || io::Error::other("Connection refused");
    assert_eq!(
        told(&Told { said: "cannot connect", source: refused() }),
        "cannot connect: Connection refused"
    );
    assert_eq!(
        told(&Told { said: "cannot connect: Connection refused", source: refused() }),
        "Connection refused"
    );
    let closed = Told { said: "body", source: io::ErrorKind::UnexpectedEof.into() };
    assert_eq!(told(&closed), "the connection was closed");
}

#[test]
fn a_server_that_forgot_our_place_is_asked_soon_however_long_it_was_away() {
    let access = Access { master: Some("http://127.0.0.1:1".to_owned()), ..Access::default() };
    let connection = Connection::open(access, Exchanges::uncounted()).expect("an address");
    let (out, _batches) = mpsc::channel();
    let outlet = Outlet { gate: Rc::new(RefCell::new(Gate::new(NodeNeeds::Addresses))), out };
    let node = NodeSelector("node-1".into());
    let mut follower = Follower::new(Kind::Services, &node, Rc::new(connection), outlet, Patience::Endless);
    let unreachable = || Failure::Unreachable("it is away".to_owned());
    let away: Vec<Duration> =
        (0..8).map(|_| follower.delay_after(unreachable()).expect("it goes on")).collect();
    assert!(away.last().is_some_and(|delay| *delay >= LAST_DELAY / 2), "{away:?}");
    let soon = follower.delay_after(Failure::Expired).expect("it goes on");
    assert!(soon <= FIRST_DELAY * 3 / 2, "{soon:?}");
    assert_eq!(follower.position, Position::Nowhere);
    // But not again and again.
    let often: Vec<Duration> =
        (0..8).map(|_| follower.delay_after(Failure::Expired).expect("it goes on")).collect();
    assert!(often.last().is_some_and(|delay| *delay >= LAST_DELAY / 2), "{often:?}");
}
