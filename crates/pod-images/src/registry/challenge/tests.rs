//! Which headers ask for what.

use super::{Challenge, challenge};

#[test]
fn headers_of_registries() {
    let rows = [
        (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
        ("basic", Some(Challenge::Basic)),
        (
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            Some(Challenge::Bearer(
                "https://auth.docker.io/token?scope=repository:a/b:pull,push&service=registry.docker.io"
                    .to_owned(),
            )),
        ),
        (
            r#"Bearer realm="https://a.example/t?x=1", service="my registry&x""#,
            Some(Challenge::Bearer("https://a.example/t?x=1&service=my%20registry%26x".to_owned())),
        ),
        ("Bearer realm=https://a.example", Some(Challenge::Bearer("https://a.example".to_owned()))),
        (r#"Bearer service="x""#, None),
        (r#"Bearer realm="never ends"#, Some(Challenge::Bearer("never ends".to_owned()))),
        ("Negotiate", None),
        ("", None),
    ];
    for (header, expected) in rows {
        assert_eq!(challenge(header), expected, "{header}");
    }
}
