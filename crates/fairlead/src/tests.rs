use super::*;

fn normalized_texts(arguments: &[&str]) -> Vec<String> {
    let arguments = normalized(arguments.iter().map(OsString::from));
    arguments.into_iter().map(|argument| argument.into_string().expect("text")).collect()
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn by_the_name_of_kube_proxy_it_is_the_proxy() {
    assert_eq!(
        normalized_texts(&["/usr/local/bin/kube-proxy", "-v=2"]),
        ["/usr/local/bin/kube-proxy", "proxy", "-v=2"]
    );
    assert_eq!(normalized_texts(&["fairlead", "proxy"]), ["fairlead", "proxy"]);
}

#[test]
fn flags_may_have_underscores() {
    let arguments =
        normalized_texts(&["fairlead", "proxy", "--cluster_cidr=10.0.0.0/8", "--hostname_override", "a_b"]);
    assert_eq!(arguments, ["fairlead", "proxy", "--cluster-cidr=10.0.0.0/8", "--hostname-override", "a_b"]);
}

#[test]
fn an_error_is_told_in_one_line_and_each_cause_once() {
    let cause = anyhow::anyhow!("No such file");
    assert_eq!(
        told(&cause.context("open the box").context("start: open the box")),
        "start: open the box: No such file"
    );
    assert_eq!(
        told(&anyhow::anyhow!("No such file").context("cannot read /x: No such file")),
        "cannot read /x: No such file"
    );
}
