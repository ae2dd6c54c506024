//! A client of the API server that does nothing else: writes an object, and watches one without keeping anything.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// Longer than anything that is waited for.
const PATIENCE: Duration = Duration::from_mins(2);

/// Talks to the server of this namespace.
pub(super) struct Client {
    config: Arc<ClientConfig>,
    token: &'static str,
}

/// The events of one object, a line each, as they arrive.
pub(super) struct Watch {
    lines: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    line: String,
}

impl Client {
    pub(super) fn new(authority: &Path, token: &'static str) -> Result<Self> {
        let pem = fs::read(authority).context("the server's certificate")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { config: Arc::new(config), token })
    }

    /// Writes an object over what it was.
    pub(super) fn put(&self, path: &str, object: &Value) -> Result<()> {
        let mut answer = self.request(6443, "PUT", path, &object.to_string())?;
        let mut text = String::new();
        answer.read_to_string(&mut text)?;
        ensure!(text.contains(" 200 "), "PUT {path}: {text}");
        Ok(())
    }

    /// Watches what there is at a path, by a port where somebody may be between.
    pub(super) fn watch(&self, port: u16, path: &str) -> Result<Watch> {
        Ok(Watch { lines: self.request(port, "GET", path, "")?, line: String::new() })
    }

    /// HTTP/1.0: an answer ends with its connection, and nothing frames it.
    fn request(
        &self,
        port: u16,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<BufReader<StreamOwned<ClientConnection, TcpStream>>> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let connection = ClientConnection::new(Arc::clone(&self.config), name)?;
        let mut stream = StreamOwned::new(connection, stream);
        let (token, length) = (self.token, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
             Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        stream.flush()?;
        Ok(BufReader::with_capacity(64 << 10, stream))
    }
}

impl Watch {
    /// Waits for an event with such a text in it. Answers when it was here.
    pub(super) fn until(&mut self, text: &str) -> Result<Instant> {
        loop {
            self.line.clear();
            let count = self.lines.read_line(&mut self.line).context("watch")?;
            let arrived = Instant::now();
            ensure!(count > 0, "the server ended a watch");
            if self.line.contains(text) {
                return Ok(arrived);
            }
        }
    }
}
