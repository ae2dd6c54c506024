use kernel_state::xtables::{ChainName, Table};

use super::*;

#[test]
fn a_failed_line_is_found_in_the_words_of_both_backends() {
    let rows = [
        (
            "iptables-restore v1.8.9 (nf_tables): line 4: RULE_APPEND failed (No such file or directory)",
            Some(4),
        ),
        ("iptables-restore: line 12 failed", Some(12)),
        ("iptables-restore v1.8.9 (legacy): Couldn't load target `X'; Error occurred at line: 7", Some(7)),
        ("Another app is currently holding the xtables lock", None),
    ];
    for (message, line) in rows {
        let status = ExitStatus::default();
        let error =
            ToolError::Status { tool: "iptables-restore".to_owned(), status, message: message.to_owned() };
        assert_eq!(failed_line(&error), line, "{message}");
    }
}

fn put(table: Table, chain: &'static str) -> Change<xtables::Xtables> {
    Change::Put { key: Key::chain(table, ChainName::of(chain)), value: Rules::from([]), replaced: None }
}

#[test]
fn a_failure_in_the_first_transaction_leaves_nothing_behind() {
    // *filter, :A, COMMIT, *nat, :B, COMMIT
    let both = [put(Table::Filter, "A"), put(Table::Nat, "B")];
    let refused = |index, text: &str| Some(Refused { index, text: text.to_owned() });
    assert_eq!(outcome(&both, Some(2)), (Applied::Nothing, refused(0, ":A - [0:0]")));
    assert_eq!(outcome(&both, Some(3)), (Applied::Nothing, None));
    assert_eq!(outcome(&both, Some(5)), (Applied::Unknown, refused(1, ":B - [0:0]")));
    assert_eq!(outcome(&both, None), (Applied::Unknown, None));
    assert_eq!(outcome(&both[1..], None), (Applied::Nothing, None));
}

#[test]
fn versions_are_read_and_compared() {
    let version = |text| Version::parse(text).expect("a version");
    assert_eq!(version("iptables v1.8.9 (nf_tables)").to_string(), "1.8.9");
    assert!(version("iptables v1.6.1") < Version::OLDEST);
    assert!(version("iptables v1.10.0 (legacy)") > Version::OLDEST);
    assert_eq!(Version::parse("sh: iptables: not found"), None);
}
