//! Session affinity: a chain for each pool, and for each endpoint a set of the clients that keep to it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kernel_state::nft::{Field, Key, Rule, Sense, SetSpec, Statement, Value};
use service_plan::{PoolName, Seconds, Verdict, equal_shares};

use super::{Rendering, layout};

pub(super) fn render(rendering: &mut Rendering<'_>, timeout: Seconds) {
    let mut endpoints: BTreeSet<SocketAddr> = BTreeSet::new();
    for name in [PoolName::Cluster, PoolName::Local] {
        let forwards = |verdict: &Verdict| matches!(verdict, Verdict::Forward { pool, .. } if *pool == name);
        let mut verdicts = rendering.plan.entrances.iter().flat_map(|entrance| &entrance.verdicts);
        if verdicts.any(|(_, verdict)| forwards(verdict)) {
            let shares = equal_shares(rendering.plan.pool(name));
            pool_chain(rendering, name, &shares, timeout);
            endpoints.extend(shares);
        }
    }
    for endpoint in endpoints {
        let set = layout::affinity_set(timeout, &rendering.plan.name, endpoint);
        let spec = SetSpec::Remembered { timeout: timeout.0 };
        rendering.state.put(Key::set(rendering.family, &set), Value::Set(spec));
    }
}

/// Whoever is remembered comes first; then one share in n is picked, one in n - 1 of the rest, and so on.
fn pool_chain(rendering: &mut Rendering<'_>, name: PoolName, shares: &[SocketAddr], timeout: Seconds) {
    let Some(last) = shares.last() else { return };
    let service = &rendering.plan.name;
    let dnat = |endpoint: &SocketAddr| {
        [Statement::Protocol(rendering.protocol), Statement::Dnat(endpoint.ip(), endpoint.port())]
    };
    let mut endpoints = shares.to_vec();
    endpoints.dedup();
    let remembered = endpoints.iter().map(|endpoint| {
        let set = layout::affinity_set(timeout, service, *endpoint);
        let known = Statement::In([Field::Source].into(), Sense::Is, set.clone());
        Rule::new([known, Statement::Remember(set)].into_iter().chain(dnat(endpoint)))
    });
    let picked = shares.iter().enumerate().map(|(place, endpoint)| {
        let left = u32::try_from(shares.len() - place).unwrap_or(u32::MAX);
        let chance = (left > 1).then_some(Statement::OnceIn(left));
        let set = layout::affinity_set(timeout, service, *endpoint);
        Rule::new(chance.into_iter().chain([Statement::Remember(set)]).chain(dnat(endpoint)))
    });
    // A set that is full takes no more clients; they are served all the same.
    let unremembered = Rule::new(dnat(last));
    let rules: Vec<Rule> = remembered.chain(picked).chain([unremembered]).collect();
    let chain = layout::affinity_chain(layout::pool_word(name), service);
    rendering.state.put(Key::chain(rendering.family, &chain), Value::chain(rules));
}
