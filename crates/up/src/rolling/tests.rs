use super::*;

/// Members in short: `o` and `n` are old and new ones that serve, `.` and `_` old and new ones that do not.
fn members(text: &str) -> Vec<Member<usize>> {
    let member = |(name, letter)| {
        let (age, standing) = match letter {
            'o' => (Age::Old, Standing::Available),
            'n' => (Age::New, Standing::Available),
            '.' => (Age::Old, Standing::Unavailable),
            _ => (Age::New, Standing::Unavailable),
        };
        Member { name, age, standing }
    };
    text.chars().enumerate().map(member).collect()
}

#[test]
fn a_roll_surges_by_a_quarter_and_misses_a_quarter() {
    for (replicas, there, create, stop) in [
        (4, "", 4, vec![]),
        (4, "____", 0, vec![]),
        (4, "nnnn", 0, vec![]),
        // Scaled.
        (4, "nn", 2, vec![]),
        (2, "nnnn", 0, vec![3, 2]),
        (2, "n_n_", 0, vec![3, 1]),
        (0, "nn", 0, vec![1, 0]),
        // Rolled: one above, one may be missing.
        (4, "oooo", 1, vec![3]),
        (4, "ooo_", 1, vec![]),
        (4, "ooo__", 0, vec![]),
        (4, "ooon_", 0, vec![2]),
        (4, "oonnn", 0, vec![1, 0]),
        (4, "onnn", 1, vec![0]),
        // A single one is never missed.
        (1, "o", 1, vec![]),
        (1, "o_", 0, vec![]),
        (1, "on", 0, vec![0]),
        // Old ones that do not serve go first, as far as new ones are not waited for.
        (4, ".ooo", 1, vec![0]),
        (4, "..oo", 1, vec![1]),
        (0, "oo", 0, vec![1, 0]),
    ] {
        assert_eq!(next(replicas, &members(there)), Next { create, stop }, "{replicas} {there}");
    }
}

#[test]
fn any_roll_ends_and_never_has_too_few_or_too_many() {
    for (from, to) in [(1, 1), (4, 4), (10, 10), (3, 7), (9, 2), (5, 0), (0, 5)] {
        let mut all = members(&"o".repeat(from));
        let mut name = from;
        for round in 0.. {
            assert!(round < 100, "{from} {to} {all:?}");
            let Next { create, stop } = next(to, &all);
            if create == 0 && stop.is_empty() && all.iter().all(|one| one.standing == Standing::Available) {
                break;
            }
            all.retain(|member| !stop.contains(&member.name));
            let available = all.iter().filter(|one| one.standing == Standing::Available).count();
            assert!(available >= (to - unavailable(to)).min(from - unavailable(from)).min(from), "{all:?}");
            // One becomes ready each round.
            if let Some(one) = all.iter_mut().find(|one| one.standing == Standing::Unavailable) {
                one.standing = Standing::Available;
            }
            for _ in 0..create {
                all.push(Member { name, age: Age::New, standing: Standing::Unavailable });
                name += 1;
            }
            assert!(all.len() <= from.max(to + surge(to)), "{all:?}");
        }
        assert_eq!(all.len(), to);
        assert!(all.iter().all(|member| member.age == Age::New));
    }
}
