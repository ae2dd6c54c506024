//! The same pods where all controllers of cgroups share one tree: in a second kernel, since this machine's may have a
//! tree for each.

use std::time::Duration;

use second_kernel::Boot;

const LIMIT: Duration = Duration::from_mins(3);

#[test]
fn pods_are_the_same_with_one_tree_of_cgroups() {
    let program = std::env::current_exe().expect("this program has a path");
    let ended = Boot::new(program, LIMIT).arguments(["pods::", "--test-threads", "2"]).run();
    let ended = ended.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ended.status, 0, "{}", ended.output);
    assert!(ended.output.contains("test result: ok"), "{}", ended.output);
}
