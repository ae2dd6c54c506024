//! Streams of one piece and of several.

use std::io::Read;

use testkit::images::{Compression as Made, compressed};

use super::decompressed;

fn read(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    decompressed(bytes)?.read_to_end(&mut read)?;
    Ok(read)
}

#[test]
fn pieces_follow_each_other() {
    let large = b"many words, ".repeat(100_000);
    for made in [Made::None, Made::Gzip, Made::Zstd] {
        let twice = [compressed(&large, made), compressed(b"end", made)].concat();
        assert_eq!(read(&twice).expect("whole"), [&large[..], b"end"].concat());
    }
}

#[test]
fn frames_without_data_are_passed_over() {
    let empty = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let stream = [&empty[..], &compressed(b"data", Made::Zstd), &empty].concat();
    assert_eq!(read(&stream).expect("whole"), b"data");
}

#[test]
fn what_breaks_off_is_an_error() {
    for made in [Made::Gzip, Made::Zstd] {
        let whole = compressed(&b"many words, ".repeat(1000), made);
        for end in 5..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{made:?} up to {end}");
        }
        assert!(read(&[&whole[..], b"rubbish"].concat()).is_err(), "{made:?}");
    }
    assert_eq!(read(b"").expect("nothing"), b"");
}
