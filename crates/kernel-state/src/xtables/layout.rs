//! How a process with no memory knows which chains and rules are ours: by their names and comments.

use super::{ChainName, Key, Part, Rule, Rules, Table, Target, rule_set};

/// Chains that a running kubelet keeps, by which others know of it.
const KUBELET_CHAINS: [&str; 2] = ["KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"];

/// Which chains are ours, and which of them are shared by several owners.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Chains of which every owner has a run of rules.
    pub shared: Vec<(Table, ChainName)>,
    /// Chains that are wholly ours, by name.
    pub whole: Vec<(Table, ChainName)>,
    /// Beginnings of the names of chains that are wholly ours.
    pub prefixes: Vec<(Table, &'static str)>,
    /// Comment of the rules that stand last in a shared chain.
    pub tail_comment: &'static str,
    /// Comment of our rule in the chain that kubelet writes too.
    pub guard_comment: &'static str,
    /// Whose that chain is.
    pub guarded_chain: GuardedChain,
    /// Chains that kube-proxy and kubelet shared once: left-overs, where no kubelet is there to rely on them.
    pub kubelets: Vec<(Table, ChainName)>,
    /// Comment of the rule in the guarded chain that belongs to those.
    pub kubelets_comment: &'static str,
}

/// Takes in the chains of a machine, one after another, and tells what is ours among them.
#[derive(Debug)]
pub struct Finder<'a> {
    layout: &'a Layout,
    kubelet: Kubelet,
    /// Ours only if no kubelet relies on it.
    doubtful: Vec<(Key, Rules)>,
}

/// Whether a kubelet runs on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kubelet {
    Present,
    Absent,
}

/// Whether an object is ours.
enum Claim {
    Always,
    WithoutKubelet,
    Never,
}

/// Whose the chain is that kubelet writes too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardedChain {
    /// We want our rule in it, whoever else does.
    Wanted,
    /// We want nothing of it: it is a left-over to remove, unless a kubelet is there to rely on it.
    Unwanted,
    /// It is none of ours: another layout sees to it.
    Foreign,
}

impl Layout {
    /// The chain that kubelet makes too, with the same rule, and relies on.
    pub fn guarded_chain_name() -> ChainName {
        ChainName::of("KUBE-FIREWALL")
    }

    /// Looks for what is ours among the chains of a machine.
    ///
    /// Foreign rules between ours in a built-in chain are not among that. In a chain of ours they are, as
    /// [`Part::Stray`].
    pub fn finder(&self) -> Finder<'_> {
        Finder { layout: self, kubelet: Kubelet::Absent, doubtful: Vec::new() }
    }

    fn claim(&self, key: &Key) -> Claim {
        let is_guarded = key.part == Part::Guard || key.chain == Self::guarded_chain_name();
        let is_kubelets = self.kubelets.contains(&(key.table, key.chain))
            || (is_guarded && matches!(key.part, Part::Stray(_)));
        match self.guarded_chain {
            GuardedChain::Wanted if is_kubelets => Claim::WithoutKubelet,
            GuardedChain::Unwanted if is_kubelets || is_guarded => Claim::WithoutKubelet,
            GuardedChain::Foreign if is_kubelets || is_guarded => Claim::Never,
            GuardedChain::Wanted | GuardedChain::Unwanted | GuardedChain::Foreign => Claim::Always,
        }
    }

    fn chain_objects(&self, table: Table, chain: ChainName, rules: Vec<Rule>) -> Vec<(Key, Rules)> {
        if self.is_whole(table, chain) {
            return vec![(Key::chain(table, chain), rules.into())];
        }
        let is_shared = self.shared.contains(&(table, chain)) || chain == Self::guarded_chain_name();
        let mut runs: Vec<(Part, Vec<Rule>)> = Vec::new();
        let mut places = std::collections::BTreeMap::new();
        for (position, rule) in rules.into_iter().enumerate() {
            let part = if chain == Self::guarded_chain_name() {
                self.guarded_part(&rule, position)
            } else if is_shared {
                Some(self.part(&rule, position))
            } else {
                self.jump_part(table, &rule)
            };
            let Some(part) = part else { continue };
            let place = *places.entry(part.clone()).or_insert_with(|| {
                runs.push((part, Vec::new()));
                runs.len() - 1
            });
            runs[place].1.push(rule);
        }
        let itself = is_shared.then(|| (Key::chain(table, chain), Rules::from([])));
        let runs = runs.into_iter().map(|(part, rules)| {
            let rules = if matches!(part, Part::Of(..)) { rule_set(rules) } else { rules.into() };
            (Key::run(table, chain, part), rules)
        });
        itself.into_iter().chain(runs).collect()
    }

    /// Whose rule it is, in a shared chain.
    fn part(&self, rule: &Rule, position: usize) -> Part {
        let stray = || Part::Stray(u32::try_from(position).unwrap_or(u32::MAX));
        let Some(comment) = rule.comment() else { return stray() };
        if comment == self.tail_comment {
            return Part::Tail;
        }
        match (comment.split(' ').next().filter(|name| name.contains('/')), rule.protocol()) {
            (Some(name), Some(protocol)) => Part::Of(name.into(), protocol),
            (Some(_) | None, _) => stray(),
        }
    }

    /// Whose it is, in the chain that kubelet writes too.
    fn guarded_part(&self, rule: &Rule, position: usize) -> Option<Part> {
        match rule.comment()? {
            comment if comment == self.guard_comment => Some(Part::Guard),
            comment if comment == self.kubelets_comment => {
                Some(Part::Stray(u32::try_from(position).unwrap_or(u32::MAX)))
            }
            _ => None,
        }
    }

    /// Whether a rule of a built-in chain is one of our jumps.
    fn jump_part(&self, table: Table, rule: &Rule) -> Option<Part> {
        let Some(Target::Jump(to)) = rule.target else { return None };
        if to == Self::guarded_chain_name() {
            return Some(Part::Guard);
        }
        let ours = self.shared.contains(&(table, to)) || self.is_whole(table, to);
        ours.then_some(Part::Head)
    }

    fn is_whole(&self, table: Table, chain: ChainName) -> bool {
        self.whole.contains(&(table, chain))
            || self.kubelets.contains(&(table, chain))
            || self.prefixes.iter().any(|(of, prefix)| *of == table && chain.as_str().starts_with(prefix))
    }
}

impl Finder<'_> {
    /// The next chain, with its rules.
    pub fn chain(
        &mut self,
        (table, chain, rules): (Table, ChainName, Vec<Rule>),
        found: &mut dyn FnMut(Key, Rules),
    ) {
        if KUBELET_CHAINS.contains(&chain.as_str()) {
            self.kubelet = Kubelet::Present;
        }
        for (key, rules) in self.layout.chain_objects(table, chain, rules) {
            match self.layout.claim(&key) {
                Claim::Always => found(key, rules),
                Claim::WithoutKubelet => self.doubtful.push((key, rules)),
                Claim::Never => {}
            }
        }
    }

    /// There are no more.
    pub fn end(self, found: &mut dyn FnMut(Key, Rules)) {
        if self.kubelet == Kubelet::Absent {
            for (key, rules) in self.doubtful {
                found(key, rules);
            }
        }
    }
}
