use std::fs;
use std::io::Write as _;

use super::*;

fn printed(follow: &mut Follow) -> String {
    let mut text = Vec::new();
    while let Some(line) = follow.line().expect("the log can be read") {
        text.extend(line.text);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn lines_are_kept_in_the_format_of_the_runtime_interface() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let pipes = Pipes::at(directory.path());
    pipes.make().expect("pipes");
    let (readers, [mut out, mut err]) =
        (pipes.readers().expect("readers"), pipes.writers().expect("writers"));
    out.write_all(b"one\n\ntwo ").expect("written");
    err.write_all(b"bad\n").expect("written");
    out.write_all(&[b'x'; LONGEST_LINE]).expect("written");
    out.write_all(b"\nlast").expect("written");
    drop((out, err));
    pump(readers, &mut Log::open(&path).expect("a log")).expect("pumped");
    let text = fs::read_to_string(&path).expect("the log");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    let long = format!("two {}", "x".repeat(LONGEST_LINE));
    let (first, rest) = long.split_at(LONGEST_LINE);
    let mut found: Vec<_> = lines.iter().map(|line| (line[1], line[2], line[3])).collect();
    let error = found.iter().position(|line| line.0 == "stderr").expect("a line of stderr");
    assert_eq!(found.remove(error), ("stderr", "F", "bad"));
    assert_eq!(
        found,
        [
            ("stdout", "F", "one"),
            ("stdout", "F", ""),
            ("stdout", "P", first),
            ("stdout", "F", rest),
            ("stdout", "F", "last")
        ]
    );
    let shown = printed(&mut Follow::new(&path).expect("the log"));
    assert!(shown.contains(&format!("{long}\nlast\n")), "{shown}");
}

#[test]
fn a_log_that_grows_too_large_is_set_aside_and_followed_across() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let mut log = Log::with_largest(&path, 200).expect("a log");
    let mut follow = Follow::new(&path).expect("the log");
    let mut shown = String::new();
    for number in 0..30 {
        let line = format!("line {number}");
        log.write(Stream::Stdout, &[(line.as_bytes(), Ending::Line)]).expect("written");
        shown += &printed(&mut follow);
    }
    let expected = (0..30).map(|number| format!("line {number}\n")).collect::<Vec<_>>().concat();
    assert_eq!(shown, expected);
    let names = fs::read_dir(directory.path()).expect("a directory").count();
    assert_eq!(names, 1 + usize::try_from(KEPT).expect("small"), "older ones are gone");
    assert!(expected.ends_with(&printed(&mut Follow::new(&path).expect("the log"))));
}
