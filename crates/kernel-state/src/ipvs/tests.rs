use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn server(protocol: Protocol, text: &str) -> Server {
    Server { protocol, at: at(text) }
}

fn service(scheduler: &str, persistence: Option<u32>, flags: SchedulerFlags) -> Value {
    let scheduler = Scheduler::new(scheduler).expect("a short name");
    Value::Server(Service { scheduler, persistence, flags })
}

fn weighing(weight: u32) -> Value {
    Value::Destination(Destination { weight, forwarding: Forwarding::Masquerade })
}

#[test]
fn virtual_servers_stand_before_their_real_servers() {
    let mut state = IpvsState::new();
    let (web, dns) = (server(Protocol::Tcp, "10.0.0.1:80"), server(Protocol::Udp, "[fd00::1]:53"));
    let both = SchedulerFlags::FALLBACK.or(SchedulerFlags::PORT);
    state.put(Key::Server(dns), service("mh", Some(10_800), both));
    state.put(Key::Server(web), service("rr", None, SchedulerFlags::default()));
    state.put(Key::Destination(web, at("10.1.0.1:8080")), weighing(1));
    state.put(Key::Destination(dns, at("[fd00::2]:53")), weighing(7));
    let expected = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 1
-A -u [fd00::1]:53 -s mh -p 10800 -b mh-fallback,mh-port
-a -u [fd00::1]:53 -r [fd00::2]:53 -m -w 7
";
    assert_eq!(state.to_string(), expected);
}

#[test]
fn changes_read_as_ipvsadm_takes_them() {
    let web = server(Protocol::Sctp, "10.0.0.1:80");
    let to = Key::Destination(web, at("10.1.0.1:80"));
    let rr = || service("rr", None, SchedulerFlags::default());
    let changes: [Change<Ipvs>; 4] = [
        Change::Put {
            key: Key::Server(web),
            value: service("lc", None, SchedulerFlags::PORT),
            replaced: Some(rr()),
        },
        Change::Put { key: to, value: weighing(2), replaced: Some(weighing(1)) },
        Change::Drop { key: to, value: weighing(2) },
        Change::Drop { key: Key::Server(web), value: rr() },
    ];
    let mut text = String::new();
    Ipvs::print_changes(&changes, &mut text).expect("writing to a String cannot fail");
    let at = "--sctp-service 10.0.0.1:80";
    let expected =
        format!("-E {at} -s lc -b flag-2\n-e {at} -r 10.1.0.1:80 -m -w 2\n-d {at} -r 10.1.0.1:80\n-D {at}\n");
    assert_eq!(text, expected);
}

#[test]
fn a_scheduler_has_a_name() {
    assert!(Scheduler::new("").is_none());
    assert!(Scheduler::new("a-scheduler-xyz").is_some());
    assert!(Scheduler::new("a-scheduler-wxyz").is_none());
}
