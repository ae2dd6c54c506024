//! An image from Debian's docker-registry, over TLS by a certificate authority of one's own, for those who have a token.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use pod_images::pack::Layout;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use testkit::images::busybox;
use testkit::registry::Registry;

use crate::world::{World, pod};

/// Not on loopback, so that it must prove who it is.
const AT: &str = "192.0.2.1:5000";
/// Who gives out tokens.
const TOKENS: &str = "192.0.2.1:5001";
/// user and password, as docker sends them.
const BASIC: &str = "dXNlcjpwYXNzd29yZA==";

fn openssl(directory: &Path, words: &str) {
    let ran = Command::new("openssl").args(words.split(' ')).current_dir(directory).output();
    let ran = ran.expect("start openssl");
    assert!(ran.status.success(), "{words}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// An authority, and a certificate of it for the registry.
fn certificates(directory: &Path) {
    openssl(
        directory,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
    );
    openssl(directory, "x509 -in ca.pem -outform DER -out ca.der");
    openssl(
        directory,
        "req -newkey rsa:2048 -nodes -subj /CN=registry -keyout registry.key -out registry.csr",
    );
    fs::write(directory.join("names"), "subjectAltName=IP:192.0.2.1\n").expect("written");
    openssl(
        directory,
        "x509 -req -in registry.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out registry.pem",
    );
}

/// A token by which one repository may be read, signed by the authority.
fn token(directory: &Path) -> String {
    let certificate = BASE64.encode(&fs::read(directory.join("ca.der")).expect("read"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let claims = json!({
        "iss": "authority", "sub": "user", "aud": "registry", "jti": "1",
        "iat": now, "nbf": now - 60, "exp": now + 3600,
        "access": [{ "type": "repository", "name": "team/shell", "actions": ["pull"] }],
    });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let text = format!("{}.{}", part(&header), part(&claims));
    fs::write(directory.join("token"), &text).expect("written");
    openssl(directory, "dgst -sha256 -sign ca.key -out signature token");
    format!("{text}.{}", BASE64URL_NOPAD.encode(&fs::read(directory.join("signature")).expect("read")))
}

/// Gives the token to whoever has the password.
fn give_tokens(world: &World, token: String) {
    let listener = world.netns.run(|| TcpListener::bind(TOKENS)).expect("entered").expect("listens");
    let at = |name: &str| world.directory.path().join(name);
    let certificate = CertificateDer::from_pem_file(at("registry.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(at("registry.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the key is the certificate's");
    let config = Arc::new(config);
    let serve = move |client: TcpStream| -> io::Result<()> {
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut client = StreamOwned::new(connection, client);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let known = String::from_utf8_lossy(&head).contains(&format!("Basic {BASIC}\r\n"));
        let body = if known { json!({ "token": token }) } else { json!({ "errors": [] }) }.to_string();
        let status = if known { "200 OK" } else { "401 Unauthorized" };
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        client.flush()
    };
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let _ = serve(client); // one that hangs up
        }
    });
}

/// A registry that is asked over TLS and wants a token; an image is in it.
fn registry(world: &World) -> Registry {
    let directory = world.directory.path();
    certificates(directory);
    let at = AT.parse().expect("an address and port");
    let store = directory.join("registry");
    let open = Registry::start(&world.netns, &store, at, &json!({}), &json!({}));
    open.push("team/shell", "1", &Layout::of(&busybox("shell")));
    drop(open);
    give_tokens(world, token(directory));
    let auth = json!({ "token": {
        "realm": format!("https://{TOKENS}/token"), "service": "registry", "issuer": "authority",
        "rootcertbundle": directory.join("ca.pem"),
    }});
    let tls = json!({ "certificate": directory.join("registry.pem"), "key": directory.join("registry.key") });
    Registry::start(&world.netns, &store, at, &auth, &tls)
}

fn docker_config(world: &World, auth: &str) -> PathBuf {
    let directory = world.directory.path().join(format!("docker-{}", auth.len()));
    fs::create_dir_all(&directory).expect("made");
    let config = json!({ "auths": { AT: { "auth": auth } } });
    fs::write(directory.join("config.json"), config.to_string()).expect("written");
    directory
}

fn spec(image: &str) -> String {
    format!("{{containers: [{{name: a, image: '{AT}/{image}', command: [sleep, '1000']}}]}}")
}

#[test]
fn a_pod_runs_from_a_registry_that_wants_a_token_and_whose_authority_is_ones_own() {
    let world = World::new();
    let _registry = registry(&world);
    let (authority, login) = (world.directory.path().join("ca.pem"), docker_config(&world, BASIC));
    let wrong = docker_config(&world, "dXNlcjp3cm9uZw==x");
    let path = world.manifest(&pod("p", &spec("team/shell:1")));
    let refused = |world: &World, path: &str| {
        let told = world.bad(&["run", "-f", path]);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.starts_with("error: container a: image 192.0.2.1:5000/team/shell:"), "{told}");
        told
    };
    let world = world.with("DOCKER_CONFIG", &login);
    let told = refused(&world, &path);
    assert!(told.to_lowercase().contains("certificate"), "{told}");

    let world = world.with("SSL_CERT_FILE", &authority);
    world.good(&["run", "--timeout", "60", "-f", &path]);
    assert_eq!(world.exec("a", "echo $((6 * 7))"), "42\n");

    let missing = world.manifest(&pod("q", &spec("team/shell:2")));
    let told = refused(&world, &missing);
    assert!(told.contains("not found: ") && told.contains("MANIFEST_UNKNOWN"), "{told}");
    assert_eq!(world.container("a")["ready"], true);

    let none = world.directory.path().join("none");
    let world = world.with("DOCKER_CONFIG", &none);
    let told = refused(&world, &missing);
    assert!(told.contains("there are no credentials for it"), "{told}");
    let world = world.with("DOCKER_CONFIG", &wrong);
    let told = world.bad(&["run", "-f", &missing]);
    let why = "config.json: auths[\"192.0.2.1:5000\"].auth is not USER:PASSWORD in base64\n";
    assert!(told.starts_with("error: container a: read ") && told.ends_with(why), "{told}");
    world.finish(&["p"]);
}
