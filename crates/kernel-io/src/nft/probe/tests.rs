use super::*;
use crate::netlink::Protocol;
use crate::netns::Netns;

fn refusal(errno: Errno) -> Refusal {
    Refusal { errno, private: None, text: None, offset: None, missing: None }
}

/// What comes of refusals of some questions, and of the last one.
fn judgement(refused: &[(About, Errno)]) -> Result<Abilities, String> {
    let all = refused.iter().chain(&[(About::End, Errno::NOENT)]);
    let all = all.map(|(about, errno)| (Some(*about), refusal(*errno)));
    judged(Family::Ip, all.collect()).map_err(|error| error.to_string())
}

#[test]
fn this_kernel_has_everything_and_nothing_is_left_of_the_asking() {
    let netns = Netns::new().expect("a network namespace");
    let work = || {
        let mut socket = Socket::open(Protocol::Netfilter).expect("a socket");
        let before = super::super::generation(&mut socket).expect("a number");
        for family in [Family::Ip, Family::Ip6] {
            let found = abilities(&mut socket, family).expect("this kernel can do all that is needed");
            assert_eq!(found, Abilities { ranges: Ability::There, comments: Ability::There });
        }
        assert_eq!(super::super::generation(&mut socket).expect("a number"), before, "nothing was written");
    };
    netns.run(work).expect("entered");
}

#[test]
fn each_question_that_is_refused_is_known_by_its_place() {
    for about in [About::Ranges, About::Comments, About::End] {
        let places = questions(Family::Ip).into_iter().filter(|Question(_, of)| *of == about).count();
        assert_eq!(places, 1, "{about:?}");
    }
    assert!(matches!(questions(Family::Ip).last(), Some(Question(_, About::End))));
}

#[test]
fn what_a_kernel_does_not_have_is_told_by_what_it_refuses() {
    let abilities = |ranges, comments| Ok(Abilities { ranges, comments });
    let (there, missing) = (Ability::There, Ability::Missing);
    // A comment that is too long is refused by whoever knows comments.
    let knows_comments = (About::Comments, Errno::RANGE);
    let no_ranges = (About::Ranges, Errno::INVAL);
    assert_eq!(judgement(&[knows_comments]), abilities(there, there));
    assert_eq!(judgement(&[knows_comments, no_ranges]), abilities(missing, there));
    assert_eq!(judgement(&[no_ranges]), abilities(missing, missing));
    assert_eq!(judgement(&[]), abilities(there, missing));
}

#[test]
fn what_nothing_can_be_done_without_is_named_in_one_line() {
    let refused = [(About::Comments, Errno::RANGE), (About::Needed("CONFIG_NFT_MASQ"), Errno::NOENT)];
    assert_eq!(
        judgement(&refused),
        Err(
            "nftables: this kernel was built without CONFIG_NFT_MASQ: No such file or directory (os error 2)"
                .to_owned()
        )
    );
}

#[test]
fn a_batch_that_is_refused_as_such_is_one_line_too() {
    let words = |errno| judged(Family::Ip6, vec![(None, refusal(errno))]).expect_err("refused").to_string();
    assert_eq!(words(Errno::OPNOTSUPP), "nftables: this kernel has none for the family ip6");
    let permission = "nftables: permission denied; writing rules needs root or CAP_NET_ADMIN";
    assert_eq!(words(Errno::PERM), permission);
}
