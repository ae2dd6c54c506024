//! Which endpoint is picked.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use kernel_state::listeners::Listener;

use super::{Balancer, Lease, Pool};
use crate::clock::Moment;

const NOW: Moment = Moment(1000);

fn at(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn client(number: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, number])
}

fn pool(numbers: &[u8], kept: Option<u32>, before: Option<&Pool>) -> Pool {
    let endpoints = numbers.iter().copied().map(at).collect();
    Pool::new(&Listener { endpoints, kept, ..Listener::default() }, before, None, NOW)
}

fn picked(pool: &Pool, balancer: Balancer) -> Lease {
    pool.pick(client(1), &[], balancer, NOW).unwrap()
}

#[test]
fn fewest_connections_win() {
    for balancer in [Balancer::LeastConnections, Balancer::PowerOfTwo] {
        let pool = pool(&[1, 2], None, None);
        let held: Vec<Lease> = (0..200).map(|_| picked(&pool, balancer)).collect();
        let first = held.iter().filter(|lease| lease.endpoint().at == at(1)).count();
        assert!((90..=110).contains(&first), "{balancer:?}: {first} of 200");
    }
}

#[test]
fn a_failed_endpoint_is_passed_over_for_a_while_but_not_where_it_is_the_only_one() {
    let pool = pool(&[1, 2], None, None);
    let failed = picked(&pool, Balancer::RoundRobin);
    failed.endpoint().failed(NOW);
    let next: BTreeSet<_> = (0..6).map(|_| picked(&pool, Balancer::RoundRobin).endpoint().at).collect();
    assert!(!next.contains(&failed.endpoint().at));
    let other = [next.into_iter().next().unwrap()];
    let last = pool.pick(client(1), &other, Balancer::RoundRobin, NOW).unwrap();
    assert_eq!(last.endpoint().at, failed.endpoint().at);
    let later = Moment(NOW.0 + 1001);
    let mut again = (0..6).map(|_| pool.pick(client(1), &[], Balancer::RoundRobin, later).unwrap());
    assert!(again.any(|lease| lease.endpoint().at == failed.endpoint().at));
}

#[test]
fn a_client_is_kept_as_long_as_it_comes_back_in_time() {
    let pool = pool(&[1, 2, 3], Some(10), None);
    let first = picked(&pool, Balancer::RoundRobin).endpoint().at;
    let mut moment = NOW;
    for _ in 0..5 {
        moment = Moment(moment.0 + 9_999);
        let lease = pool.pick(client(1), &[], Balancer::RoundRobin, moment).unwrap();
        assert_eq!(lease.endpoint().at, first);
    }
    let moment = Moment(moment.0 + 10_000);
    let lease = pool.pick(client(1), &[], Balancer::RoundRobin, moment).unwrap();
    assert_ne!(lease.endpoint().at, first);
}

#[test]
fn a_kept_client_survives_a_change_of_the_others() {
    let before = pool(&[1, 2, 3], Some(10), None);
    let first = picked(&before, Balancer::RoundRobin).endpoint().at;
    let after = pool(&[1, 2, 3, 4, 5], Some(10), Some(&before));
    assert_eq!(picked(&after, Balancer::RoundRobin).endpoint().at, first);
}

#[test]
fn an_endpoint_knows_that_it_left_and_forgets_it_when_it_is_back() {
    let before = pool(&[1], None, None);
    let lease = picked(&before, Balancer::RoundRobin);
    let without = pool(&[2], None, Some(&before));
    assert_eq!(lease.endpoint().left(), Some(NOW));
    let again = pool(&[3], None, Some(&without));
    let back = pool(&[1, 3], None, Some(&again));
    assert_eq!(lease.endpoint().left(), None);
    assert_eq!(back.len(), 2);
}

#[test]
fn nobody_is_picked_where_all_were_tried() {
    let pool = pool(&[1], None, None);
    assert!(pool.pick(client(1), &[at(1)], Balancer::LeastConnections, NOW).is_none());
}
