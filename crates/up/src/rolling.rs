//! How many pods of a Deployment are made and stopped next. Pure: what is there in, what to do out.
//!
//! It decides as the deployment controller does with `maxSurge` and `maxUnavailable` of 25%: at no time are there
//! more than `replicas` and a quarter, rounded up, nor fewer available than `replicas` less a quarter, rounded down.

/// A pod of a Deployment, as far as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member<N> {
    pub(crate) name: N,
    pub(crate) age: Age,
    pub(crate) standing: Standing,
}

/// Whether a pod is as the Deployment wants them now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    /// As its template was before.
    Old,
    /// As its template is.
    New,
}

/// What can be counted on. Worse ones sort first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It may be sent no requests, or not for long enough.
    Unavailable,
    /// It serves.
    Available,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next<N> {
    /// So many new pods are to be made.
    pub(crate) create: usize,
    /// These are to be stopped.
    pub(crate) stop: Vec<N>,
}

/// What is to be done so that there are this many new ones and no old one. Pods that are being stopped do not count
/// and are not among the members; those that are being made do.
pub(crate) fn next<N: Clone + Ord>(replicas: usize, members: &[Member<N>]) -> Next<N> {
    let of = |age: Age| members.iter().filter(move |member| member.age == age);
    let available = members.iter().filter(|member| member.standing == Standing::Available).count();
    let (new, old) = (of(Age::New).count(), of(Age::Old).count());
    let most = replicas + surge(replicas);
    let create = replicas.saturating_sub(new).min(most.saturating_sub(new + old));
    if old == 0 {
        let surplus = new.saturating_sub(replicas);
        return Next { create, stop: worst_first(of(Age::New)).take(surplus).collect() };
    }
    let least = replicas - unavailable(replicas);
    let waiting = of(Age::New).filter(|member| member.standing == Standing::Unavailable).count();
    // A new pod that is not there yet may never be, so it is not counted on.
    let mut spare = (new + old).saturating_sub(least + waiting);
    let mut served = available;
    let surplus_of_new = new.saturating_sub(replicas);
    let mut stop: Vec<N> = Vec::new();
    let candidates = worst_first(of(Age::New)).take(surplus_of_new).chain(worst_first(of(Age::Old)));
    for name in candidates {
        let is_available =
            members.iter().any(|member| member.name == name && member.standing == Standing::Available);
        if spare == 0 || is_available && served <= least {
            continue;
        }
        spare -= 1;
        served -= usize::from(is_available);
        stop.push(name);
    }
    Next { create, stop }
}

/// Those first that are missed least; of equals the last by name, which is no older than the others.
fn worst_first<'a, N: Clone + Ord + 'a>(
    members: impl Iterator<Item = &'a Member<N>>,
) -> impl Iterator<Item = N> {
    let mut members: Vec<_> = members.collect();
    members.sort_by(|one, other| one.standing.cmp(&other.standing).then(other.name.cmp(&one.name)));
    members.into_iter().map(|member| member.name.clone())
}

/// How many may be above the number.
fn surge(replicas: usize) -> usize {
    replicas.div_ceil(4)
}

/// How many may be missing.
fn unavailable(replicas: usize) -> usize {
    replicas / 4
}

#[cfg(test)]
mod tests;
