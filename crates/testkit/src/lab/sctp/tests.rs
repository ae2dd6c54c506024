use super::*;

#[test]
fn the_checksum_is_that_of_the_standard() {
    // RFC 3720, appendix B.4, and the check value that all lists of polynomials give.
    for (bytes, wanted) in [
        (&b""[..], 0),
        (&b"123456789"[..], 0xe306_9283),
        (&[0; 32][..], 0x8a91_36aa),
        (&[0xff; 32][..], 0x62a8_ab43),
    ] {
        assert_eq!(crc32c(bytes), wanted, "{bytes:?}");
    }
}

#[test]
fn a_question_is_an_init_of_32_bytes() {
    let bytes = Packet::asking(10_000, 2905, 0x0102_0304).bytes();
    let checksum = bytes[8..12].to_vec();
    #[rustfmt::skip]
    let wanted = [
        &[0x27, 0x10, 0x0b, 0x59][..], // from port 10000 to 2905
        &[0, 0, 0, 0],                 // nobody has told a tag yet
        &checksum,
        &[1, 0, 0, 20],                // INIT, of 20 bytes
        &[1, 2, 3, 4],                 // call me this
        &[0, 0, 0xff, 0xff],           // window
        &[0, 1, 0, 1],                 // streams
        &[0, 0, 0, 1],                 // first number
    ]
    .concat();
    assert_eq!(bytes, wanted);
}

#[test]
fn what_was_asked_and_answered_is_read_back() {
    let question = Packet::asking(10_000, 2905, 7);
    assert_eq!(Packet::parse(&question.bytes()), Some(question.clone()));
    for text in ["x", "10.180.0.1:2905 10.180.0.100:10000\n"] {
        let answer = question.answered(text);
        let bytes = answer.bytes();
        assert_eq!(
            (bytes.len() % 4, &bytes[4..8]),
            (0, &7_u32.to_be_bytes()[..]),
            "it calls the asker by its tag"
        );
        assert_eq!(Packet::parse(&bytes), Some(answer));
    }
}

#[test]
fn what_was_changed_or_cut_is_no_packet() {
    let bytes = Packet::asking(10_000, 2905, 7).answered("here").bytes();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert_eq!(Packet::parse(&changed), None, "byte {place}");
        assert_eq!(Packet::parse(&bytes[..place]), None, "cut at {place}");
    }
}
