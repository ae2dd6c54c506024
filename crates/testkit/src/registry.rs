//! Debian's docker-registry in a network namespace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kernel_io::namespaces::Namespaces;
use kernel_io::netns::Netns;
use kernel_io::process::{Launch, Process, Signal};
use pod_images::Digest;
use pod_images::pack::Layout;
use serde_json::{Value, json};

use crate::debian;

/// A registry that is up; dropped, it is gone, and what was pushed to it is still in its directory.
#[derive(Debug)]
pub struct Registry {
    netns: Netns,
    process: Process,
    at: SocketAddr,
    basic: &'static str,
}

impl Registry {
    /// Starts it over a directory, with these parts of its configuration: who may do what, and its certificate.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or does not listen for long.
    pub fn start(netns: &Netns, directory: &Path, at: SocketAddr, auth: &Value, tls: &Value) -> Self {
        let config = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": directory } },
            "http": { "addr": at, "secret": "test", "tls": tls },
            "auth": auth,
        });
        let path = directory.with_extension("json");
        std::fs::write(&path, config.to_string()).expect("write the configuration");
        let mut registry = Command::new(debian::unpacked("docker-registry").join("usr/bin/docker-registry"));
        registry.arg("serve").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        registry.env("OTEL_TRACES_EXPORTER", "none");
        let inside = Namespaces::network(netns).expect("its namespaces");
        let started = Launch::new(registry).joining(inside).dying_with_us().start();
        let process = started.expect("start docker-registry").process;
        let running = Self { netns: netns.clone(), process, at, basic: "" };
        let deadline = Instant::now() + Duration::from_secs(30);
        while running.netns.run(|| TcpStream::connect(at)).expect("enter").is_err() {
            assert!(
                Instant::now() < deadline && running.process.ended().is_none(),
                "the registry does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// What is said in the `Authorization` of our own requests.
    #[must_use]
    pub fn asked_as(mut self, basic: &'static str) -> Self {
        self.basic = basic;
        self
    }

    /// Pushes all blobs of a layout, then its manifests, and for the tag an index of them.
    ///
    /// # Panics
    ///
    /// If the registry does not take them.
    pub fn push(&self, repository: &str, tag: &str, layout: &Layout) -> Digest {
        let files = layout.files();
        let index: Value = serde_json::from_slice(&files["index.json"]).expect("an index");
        let manifests = index["manifests"].as_array().expect("manifests");
        let digests: Vec<&str> =
            manifests.iter().filter_map(|manifest| manifest["digest"].as_str()).collect();
        for (path, bytes) in &files {
            let Some(digest) = path.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}")) else {
                continue;
            };
            let (status, headers) = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
            assert_eq!(status, 202, "{headers}");
            let location =
                headers.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a location");
            let path = location.trim_start_matches("http://").split_once('/').expect("a path").1;
            let (status, told) =
                self.ask("PUT", &format!("/{path}&digest={digest}"), "application/octet-stream", bytes);
            assert_eq!(status, 201, "{told}");
        }
        let kind = |bytes: &[u8]| {
            let document: Value = serde_json::from_slice(bytes).expect("a document");
            document["mediaType"].as_str().expect("its type").to_owned()
        };
        let put = |name: &str, bytes: &[u8]| {
            let (status, told) =
                self.ask("PUT", &format!("/v2/{repository}/manifests/{name}"), &kind(bytes), bytes);
            assert_eq!(status, 201, "{told}");
            Digest::of(bytes)
        };
        for digest in &digests {
            put(digest, &files[&format!("blobs/{}", digest.replace(':', "/"))]);
        }
        match digests[..] {
            [only] => put(tag, &files[&format!("blobs/{}", only.replace(':', "/"))]),
            _ => put(tag, &files["index.json"]),
        }
    }

    /// A request, and the answer's status with all of the answer.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let answer = self.netns.run(|| -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.at)?;
            let authorization = if self.basic.is_empty() { "X-None" } else { "Authorization" };
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: {}\r\n{authorization}: {}\r\nContent-Type: {kind}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                self.at,
                self.basic,
                body.len()
            )?;
            stream.write_all(body)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).replace('\r', ""))
        });
        let answer = answer.expect("enter the namespace").expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.signal(Signal::KILL); // it may have ended
        let _ = self.process.wait_for(Duration::from_secs(10));
    }
}
