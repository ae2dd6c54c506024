use kernel_state::ipvs::{Forwarding, SchedulerFlags};
use proptest::prelude::*;

use super::*;
use crate::netlink::{Messages, Reply};

fn only(bytes: &[u8]) -> Reply<'_> {
    Messages::new(bytes).next().expect("a message").expect("a whole one")
}

fn web() -> Server {
    Server { protocol: Protocol::Tcp, at: SocketAddr::from(([10, 0, 0, 1], 80)) }
}

fn service(persistence: Option<u32>) -> Service {
    let scheduler = Scheduler::new("rr").expect("a short name");
    Service { scheduler, persistence, flags: SchedulerFlags::default() }
}

#[test]
fn a_virtual_server_is_put_as_the_kernel_wants_it() {
    #[rustfmt::skip]
    let expected = [
        104, 0, 0, 0,                           // length
        30, 0, 1, 0,                            // the family's number; NLM_F_REQUEST
        0, 0, 0, 0, 0, 0, 0, 0,                 // sequence, port
        1, 1, 0, 0,                             // IPVS_CMD_NEW_SERVICE, version 1
        84, 0, 1, 0x80,                         // IPVS_CMD_ATTR_SERVICE, nested
        6, 0, 1, 0, 2, 0, 0, 0,                 //   AF: AF_INET
        6, 0, 2, 0, 6, 0, 0, 0,                 //   PROTOCOL: tcp
        20, 0, 3, 0, 10, 0, 0, 1,               //   ADDR: room for either family
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        6, 0, 4, 0, 0, 80, 0, 0,                //   PORT, in network order
        7, 0, 6, 0, b'r', b'r', 0, 0,           //   SCHED_NAME
        12, 0, 7, 0, 1, 0, 0, 0, 0x39, 0, 0, 0, //   FLAGS: persistent, and which flags are meant
        8, 0, 8, 0, 0x30, 0x2a, 0, 0,           //   TIMEOUT: 10800
        8, 0, 9, 0, 0xff, 0xff, 0xff, 0xff,     //   NETMASK: each client for itself
    ];
    let message = wire::put_server(30, wire::NEW_SERVICE, &web(), &service(Some(10_800)));
    assert_eq!(message.as_bytes(), expected);
}

/// A real server as 6.1 lists it; its statistics are left out.
#[rustfmt::skip]
const LISTED: [u8; 116] = [
    116, 0, 0, 0,                               // length
    30, 0, 2, 0,                                // the family's number; NLM_F_MULTI
    1, 0, 0, 0, 0, 0, 0, 0,                     // sequence, port
    5, 1, 0, 0,                                 // IPVS_CMD_NEW_DEST, version 1
    96, 0, 2, 0x80,                             // IPVS_CMD_ATTR_DEST, nested
    20, 0, 1, 0, 10, 1, 0, 1,                   //   ADDR
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    6, 0, 2, 0, 0x1f, 0x90, 0, 0,               //   PORT: 8080
    6, 0, 11, 0, 2, 0, 0, 0,                    //   ADDR_FAMILY: AF_INET
    8, 0, 3, 0, 0, 0, 0, 0,                     //   FWD_METHOD: masquerade
    8, 0, 4, 0, 0, 0, 0, 0,                     //   WEIGHT: 0
    8, 0, 5, 0, 0, 0, 0, 0,                     //   U_THRESH
    8, 0, 6, 0, 0, 0, 0, 0,                     //   L_THRESH
    8, 0, 7, 0, 3, 0, 0, 0,                     //   ACTIVE_CONNS
    8, 0, 8, 0, 4, 0, 0, 0,                     //   INACT_CONNS
    8, 0, 9, 0, 1, 0, 0, 0,                     //   PERSIST_CONNS
];

#[test]
fn a_real_server_is_read_with_its_connections() {
    let expected = Listed {
        at: SocketAddr::from(([10, 1, 0, 1], 8080)),
        destination: Destination { weight: 0, forwarding: Forwarding::Masquerade },
        connections: 7,
    };
    assert_eq!(wire::destination(&only(&LISTED)), Ok(Some(expected)));
}

#[test]
fn a_virtual_server_is_read_as_it_was_put() {
    let ipv6 = Server { protocol: Protocol::Udp, at: "[fd00::1]:53".parse().expect("an address and port") };
    for (server, persistence) in [(web(), None), (ipv6, Some(60))] {
        let service = service(persistence);
        let message = wire::put_server(30, wire::NEW_SERVICE, &server, &service);
        assert_eq!(wire::server(&only(message.as_bytes())), Ok(Some((server, service))));
    }
}

#[test]
fn timeouts_are_read_as_they_were_set() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let timeouts = Timeouts { tcp: seconds(900), tcp_fin: seconds(120), udp: seconds(300) };
    let message = wire::set_timeouts(30, &timeouts);
    assert_eq!(wire::timeouts(&only(message.as_bytes())), Ok(timeouts));
}

proptest! {
    #[test]
    fn any_answer_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let reply = Reply { kind: 0, flags: 0, sequence: 0, port: 0, payload: &bytes };
        let _ = wire::family_id(&reply);
        let _ = wire::server(&reply);
        let _ = wire::destination(&reply);
        let _ = wire::timeouts(&reply);
    }

    #[test]
    fn any_change_of_a_list_is_read_without_a_panic(place in 20_usize..116, byte: u8) {
        let mut bytes = LISTED;
        bytes[place] = byte;
        let _ = wire::destination(&only(&bytes));
        let message = wire::put_server(30, wire::NEW_SERVICE, &web(), &service(None));
        let mut bytes = message.as_bytes().to_vec();
        let place = place % bytes.len();
        if place >= 20 {
            bytes[place] = byte;
        }
        let _ = wire::server(&only(&bytes));
    }
}

#[test]
fn a_kernel_without_ipvs_is_told_in_so_many_words() {
    let open = Servers::open(Family::Inet, Ownership::default(), Duration::ZERO);
    match open {
        Err(error @ OpenError::Missing) => {
            assert_eq!(error.to_string(), "the kernel has no IPVS; load the module ip_vs");
        }
        Ok(_) | Err(OpenError::Permission | OpenError::Ipset(_)) => {}
        Err(other) => panic!("{other}"),
    }
}
