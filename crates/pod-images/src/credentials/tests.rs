//! Which credentials an image is pulled with.

use crate::{Credentials, Reference};

fn basic(credentials: &Credentials, image: &str) -> Option<String> {
    let Reference::Registry(name) = image.parse().expect("a reference") else { panic!("{image}") };
    credentials.basic(&name)
}

#[test]
fn the_longest_place_wins() {
    // user:password, other:password, hub:password
    let json = br#"{
        "auths": {
            "https://index.docker.io/v1/": { "auth": "aHViOnBhc3N3b3Jk" },
            "registry.example": { "auth": "dXNlcjpwYXNzd29yZA==" },
            "registry.example/team": { "username": "other", "password": "password" },
            "helped.example": {},
            "localhost:5000": { "auth": "dXNlcjpwYXNzd29yZA==" }
        },
        "credsStore": "secretservice"
    }"#;
    let credentials = Credentials::of_docker_config(json).expect("credentials");
    let user = Some("Basic dXNlcjpwYXNzd29yZA==".to_owned());
    let rows = [
        ("busybox", Some("Basic aHViOnBhc3N3b3Jk".to_owned())),
        ("registry.example/app", user.clone()),
        ("registry.example/team/app", Some("Basic b3RoZXI6cGFzc3dvcmQ=".to_owned())),
        ("registry.example/teams/app", user.clone()),
        ("localhost:5000/app", user),
        ("localhost:5001/app", None),
        ("helped.example/app", None),
        ("registry.example.org/app", None),
    ];
    for (image, expected) in rows {
        assert_eq!(basic(&credentials, image), expected, "{image}");
    }
    assert!(!format!("{credentials:?}").contains("password"));
}

#[test]
fn what_is_no_login_says_where() {
    let error = Credentials::of_docker_config(br#"{ "auths": { "a.example": { "auth": "!" } } }"#);
    assert_eq!(
        error.expect_err("no base64").to_string(),
        r#"auths["a.example"].auth is not USER:PASSWORD in base64"#
    );
    assert!(Credentials::of_docker_config(b"user:password").is_err());
}
