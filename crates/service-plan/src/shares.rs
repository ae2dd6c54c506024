//! Weights as the modes need them that know no weights: as chances, or as so many equal shares.

use std::net::SocketAddr;

use crate::names::Weight;
use crate::plan::Endpoint;

/// With more endpoints than this each has one share, and with fewer there are no more shares than this.
const MOST_SHARES: usize = 128;

/// A pool as equal shares, each of the endpoint that it goes to: as many as their weights come to, in lowest terms, but
/// no more than 128 where they are scaled, and at least one for each.
pub fn equal_shares(pool: &[Endpoint]) -> Vec<SocketAddr> {
    let divisor =
        pool.iter().fold(0, |divisor, endpoint| greatest_common_divisor(divisor, number(endpoint.weight)));
    let total: usize = pool.iter().map(|endpoint| number(endpoint.weight) / divisor).sum();
    let most = MOST_SHARES.max(pool.len());
    let shares = |endpoint: &Endpoint| {
        let whole = number(endpoint.weight) / divisor;
        if total <= most { whole } else { (whole * most / total).max(1) }
    };
    pool.iter().flat_map(|endpoint| std::iter::repeat_n(endpoint.at, shares(endpoint))).collect()
}

/// The chance of each endpoint once those before it were passed over, as a fraction; the last one has none, for it is
/// certain.
pub fn chances(pool: &[Endpoint]) -> Vec<Option<(usize, usize)>> {
    let mut left: usize = pool.iter().map(|endpoint| number(endpoint.weight)).sum();
    pool.iter()
        .enumerate()
        .map(|(place, endpoint)| {
            let chance = (number(endpoint.weight), left);
            left -= number(endpoint.weight);
            (place + 1 < pool.len()).then_some(chance)
        })
        .collect()
}

fn number(weight: Weight) -> usize {
    usize::from(weight.get())
}

fn greatest_common_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::Locality;

    fn pool(weights: &[u8]) -> Vec<Endpoint> {
        let endpoint = |(number, weight): (u16, &u8)| Endpoint {
            at: SocketAddr::from(([10, 0, 0, 1], number)),
            locality: Locality::Remote,
            weight: Weight::new(*weight).expect("at most 100"),
        };
        (1..).zip(weights).map(endpoint).collect()
    }

    /// How many shares each has.
    fn counted(weights: &[u8]) -> Vec<usize> {
        let mut counts: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for at in equal_shares(&pool(weights)) {
            *counts.entry(at).or_default() += 1;
        }
        counts.into_values().collect()
    }

    #[test]
    fn shares_are_in_lowest_terms_and_bounded() {
        let rows: [(&[u8], &[usize]); 6] = [
            (&[], &[]),
            (&[1, 1, 1], &[1, 1, 1]),
            (&[50, 50], &[1, 1]),
            (&[100, 20, 60], &[5, 1, 3]),
            (&[99, 100], &[63, 64]),
            (&[100, 100, 1], &[63, 63, 1]),
        ];
        for (weights, expected) in rows {
            assert_eq!(counted(weights), expected, "{weights:?}");
        }
        assert_eq!(counted(&[1; 300]).len(), 300, "many endpoints have one each");
        let mut many = [100; 300];
        many[0] = 1;
        assert!(counted(&many).iter().sum::<usize>() <= 600);
    }

    #[test]
    fn chances_are_of_what_is_left() {
        assert_eq!(chances(&pool(&[1, 1, 1])), [Some((1, 3)), Some((1, 2)), None]);
        assert_eq!(chances(&pool(&[10, 30, 60])), [Some((10, 100)), Some((30, 90)), None]);
        assert_eq!(chances(&pool(&[])), []);
    }
}
