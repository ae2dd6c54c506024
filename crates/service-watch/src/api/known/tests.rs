use super::Known;
use crate::Event;
use crate::api::watched::Watched;
use crate::wire;

/// A Service as the API writes it.
fn service(name: &str, port: i64) -> wire::Service {
    let text = format!(
        "{{\"metadata\": {{\"name\": \"{name}\", \"namespace\": \"default\"}},
           \"spec\": {{\"clusterIP\": \"10.96.0.1\", \"ports\": [{{\"port\": {port}}}]}}}}"
    );
    serde_json::from_str(&text).expect("a Service")
}

/// What is told when these Services are said.
fn told(known: &mut Known, services: &[wire::Service]) -> (Vec<String>, Vec<String>) {
    let batches: Vec<_> = services.iter().map(|service| known.take(service.statement())).collect();
    let events = batches.iter().flat_map(|batch| &batch.events).map(word);
    let reports = batches.iter().flat_map(|batch| &batch.reports).map(ToString::to_string);
    (events.collect(), reports.collect())
}

fn word(event: &Event) -> String {
    match event {
        Event::Service(name, Some(_)) => format!("{name} is"),
        Event::Service(name, None) => format!("{name} ended"),
        Event::EndpointSlice(..)
        | Event::Triggered(_)
        | Event::Node(_)
        | Event::ServiceRanges(_)
        | Event::Listed
        | Event::Awaited(_) => format!("{event:?}"),
    }
}

#[test]
fn what_a_new_list_does_not_show_has_ended() {
    let mut known = Known::new("server".to_owned());
    known.begin_list();
    told(&mut known, &[service("a", 80), service("b", 80), service("c", 80)]);
    assert!(known.end_list().events.is_empty());
    known.begin_list();
    assert_eq!(told(&mut known, &[service("b", 80)]).0, ["default/b is"]);
    let ended: Vec<_> = known.end_list().events.iter().map(word).collect();
    assert_eq!(ended, ["default/a ended", "default/c ended"]);
}

#[test]
fn a_list_that_broke_off_takes_nothing_away() {
    let mut known = Known::new("server".to_owned());
    known.begin_list();
    told(&mut known, &[service("a", 80)]);
    known.end_list();
    known.begin_list();
    known.begin_list();
    told(&mut known, &[service("a", 80)]);
    assert!(known.end_list().is_empty());
}

#[test]
fn a_refused_object_stays_what_it_was_and_is_told_once() {
    let mut known = Known::new("https://server".to_owned());
    told(&mut known, &[service("a", 80)]);
    let expected = "https://server: Service default/a: spec.ports[0].port: 0 is not a port (1 to 65535)";
    let wrong = [service("a", 0), service("a", 0)];
    assert_eq!(told(&mut known, &wrong), (vec![], vec![expected.to_owned()]));
    known.begin_list();
    assert_eq!(told(&mut known, &[service("a", 0)]), (vec![], vec![]));
    assert!(known.end_list().is_empty());
}

#[test]
fn the_end_of_a_stranger_is_no_news() {
    let mut known = Known::new("server".to_owned());
    let key = service("a", 80).key().expect("a name");
    assert!(known.gone(&key).is_empty());
    told(&mut known, &[service("a", 80)]);
    assert_eq!(known.gone(&key).events.iter().map(word).collect::<Vec<_>>(), ["default/a ended"]);
}

#[test]
fn the_ranges_of_all_objects_are_told_together() {
    let mut known = Known::new("server".to_owned());
    let ranges = |name: &str, range: &str| -> wire::ServiceCidr {
        let text =
            format!("{{\"metadata\": {{\"name\": \"{name}\"}}, \"spec\": {{\"cidrs\": [\"{range}\"]}}}}");
        serde_json::from_str(&text).expect("a ServiceCIDR")
    };
    let (one, two) = (ranges("one", "10.97.0.0/16"), ranges("two", "10.96.0.0/16"));
    known.take(one.statement());
    let told = |events: &[Event]| format!("{events:?}");
    assert_eq!(told(&known.take(two.statement()).events), "[ServiceRanges([10.96.0.0/16, 10.97.0.0/16])]");
    let key = one.key().expect("a name");
    assert_eq!(told(&known.gone(&key).events), "[ServiceRanges([10.96.0.0/16])]");
}

#[test]
fn a_node_that_is_gone_stays_what_it_was() {
    let mut known = Known::new("server".to_owned());
    let text = "{\"metadata\": {\"name\": \"node\"}, \"status\": {\"addresses\": []}}";
    let node: wire::Node = serde_json::from_str(text).expect("a Node");
    assert_eq!(known.take(node.statement()).events.len(), 1);
    assert!(known.gone(&node.key().expect("a name")).is_empty());
}
