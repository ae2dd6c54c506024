use serde_json::json;

use super::addresses;
use super::configuration::{Check, parsed};
use super::plugin::reason;

#[test]
fn a_list_and_a_single_plugin_are_networks() {
    let list = json!({ "cniVersion": "1.0.0", "name": "pods", "disableCheck": true, "plugins": [
        { "type": "bridge" }, { "type": "portmap", "capabilities": { "portMappings": true } },
    ]});
    let network = parsed(&list.to_string()).expect("a list");
    assert_eq!((network.plugins.len(), network.check), (2, Check::Disabled));
    assert!(network.maps_ports() && !network.has_check());
    let single = json!({ "cniVersion": "0.4.0", "name": "pods", "type": "bridge" });
    let network = parsed(&single.to_string()).expect("one plugin");
    assert_eq!((network.plugins.len(), network.has_check(), network.maps_ports()), (1, true, false));
}

#[test]
fn what_is_wrong_with_a_configuration_is_told() {
    for (text, expected) in [
        ("{", "EOF while parsing"),
        (r#"{"name": "pods"}"#, "cniVersion is missing"),
        (r#"{"name": "", "cniVersion": "1.0.0"}"#, "name is missing"),
        (r#"{"name": "pods", "cniVersion": "2.0.0", "type": "bridge"}"#, "cniVersion 2.0.0 is not one of"),
        (r#"{"name": "pods", "cniVersion": "1.0.0", "plugins": []}"#, "plugins is no list of plugins"),
        (r#"{"name": "pods", "cniVersion": "1.0.0", "plugins": [{"type": "../sh"}]}"#, "plugins[0].type"),
    ] {
        let error = parsed(text).expect_err("wrong");
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_result_tells_the_addresses() {
    let result =
        json!({ "ips": [{ "address": "10.1.0.5/24", "interface": 2 }, { "address": "fd00::5/64" }, {}] });
    let expected: Vec<std::net::IpAddr> =
        ["10.1.0.5", "fd00::5"].map(|ip| ip.parse().expect("an address")).to_vec();
    assert_eq!(addresses(&result), expected);
    assert!(addresses(&serde_json::Value::Null).is_empty());
}

#[test]
fn a_failure_is_told_in_the_plugins_own_words() {
    let error =
        json!({ "cniVersion": "1.0.0", "code": 7, "msg": "no such bridge", "details": "cni0" }).to_string();
    for (said, complaint, expected) in [
        (error.as_str(), "ignored", Some("no such bridge; cni0 (code 7)")),
        ("", "segmentation fault\n", Some("segmentation fault")),
        ("not json", "", Some("not json")),
        ("", "", None),
    ] {
        assert_eq!(reason(said, complaint).as_deref(), expected);
    }
}
