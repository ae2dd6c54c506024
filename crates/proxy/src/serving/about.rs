//! What this process tells of itself: /configz, /flagz and /statusz.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use super::answer::{Answer, JSON, TEXT, answer};
use crate::config::{KUBERNETES_VERSION, Profiling};
use crate::health::timestamp;

/// But for the configuration nothing of it changes while it runs.
#[derive(Debug)]
pub(crate) struct About {
    /// The mode's name.
    pub mode: &'static str,
    /// The effective configuration, as /configz shows it.
    pub configz: Mutex<String>,
    /// Every flag and its value.
    pub flags: Vec<(String, String)>,
    /// When the process started.
    pub started: SystemTime,
    /// enableProfiling
    pub profiling: Profiling,
}

/// A page that has both a form for people and one for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Flagz,
    Statusz,
}

/// A form in which a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Structured(Syntax, Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Alpha,
    Beta,
}

const PATHS: [&str; 5] = ["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode"];

impl About {
    /// The configuration in force.
    pub(super) fn configz(&self) -> String {
        self.configz.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another configuration is in force.
    pub(crate) fn is_configured(&self, configz: String) {
        *self.configz.lock().unwrap_or_else(PoisonError::into_inner) = configz;
    }

    /// When the process started, in whole seconds since 1970.
    pub(super) fn started_seconds(&self) -> u64 {
        self.started.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
    }

    /// The page in the form that is asked for.
    pub(super) fn page(&self, page: Page, request: &Parts) -> Answer {
        let accepted = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match form(accepted, page) {
            Some(Form::Text) => plain(answer(StatusCode::OK, TEXT, self.text(page))),
            Some(Form::Structured(syntax, version)) => self.structured(page, syntax, version),
            None => plain(answer(StatusCode::NOT_ACCEPTABLE, JSON, refusal())),
        }
    }

    fn text(&self, page: Page) -> String {
        let lines: Vec<(String, String)> = match page {
            Page::Flagz => self.flags.clone(),
            Page::Statusz => {
                let up = self.age().as_secs();
                let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
                [
                    ("Started", timestamp(Some(self.started))),
                    ("Up", format!("{hours} hr {minutes:02} min {seconds:02} sec")),
                    ("Binary version", env!("CARGO_PKG_VERSION").to_owned()),
                    ("Emulation version", emulated()),
                    ("Paths", PATHS.join(" ")),
                ]
                .map(|(name, value)| (name.to_owned(), value))
                .into()
            }
        };
        let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let page = page.path();
        format!(
            "\nfairlead {page}\nWarning: this page is for people; its form may change.\n\n{}",
            lines.concat()
        )
    }

    fn structured(&self, page: Page, syntax: Syntax, version: Version) -> Answer {
        let (page_name, version_name) = (page.kind(), version.name());
        let head = [
            ("kind", json!(page_name)),
            ("apiVersion", json!(format!("config.k8s.io/{version_name}"))),
            ("metadata", json!({"name": "kube-proxy"})),
        ];
        let fields = head.into_iter().chain(self.fields(page));
        let object: Map<_, _> = fields.map(|(name, value)| (name.to_owned(), value)).collect();
        let (text, syntax_name) = match syntax {
            Syntax::Json => (serde_json::to_string_pretty(&object).unwrap_or_default(), "json"),
            Syntax::Yaml => (serde_saphyr::to_string(&object).unwrap_or_default(), "yaml"),
        };
        let mut answer = plain(answer(StatusCode::OK, JSON, text));
        let content = format!("application/{syntax_name};g=config.k8s.io;v={version_name};as={page_name}");
        let content = HeaderValue::try_from(content).expect("words");
        answer.headers_mut().insert(CONTENT_TYPE, content);
        if version == Version::Alpha {
            let text = "299 - \"this version of the page is deprecated; ask for v1beta1\"";
            answer.headers_mut().insert(HeaderName::from_static("warning"), HeaderValue::from_static(text));
        }
        answer
    }

    fn fields(&self, page: Page) -> Vec<(&'static str, Value)> {
        match page {
            Page::Flagz => {
                let flags = self.flags.iter().map(|(name, value)| (name.clone(), json!(value)));
                vec![("flags", flags.collect::<Map<_, _>>().into())]
            }
            Page::Statusz => vec![
                ("startTime", json!(timestamp(Some(whole(self.started))))),
                ("uptimeSeconds", json!(self.age().as_secs())),
                ("binaryVersion", json!(env!("CARGO_PKG_VERSION"))),
                ("emulationVersion", json!(emulated())),
                ("paths", json!(PATHS)),
            ],
        }
    }

    fn age(&self) -> Duration {
        self.started.elapsed().unwrap_or(Duration::ZERO)
    }
}

impl Page {
    fn path(self) -> &'static str {
        match self {
            Self::Flagz => "flagz",
            Self::Statusz => "statusz",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Flagz => "Flagz",
            Self::Statusz => "Statusz",
        }
    }
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::Alpha => "v1alpha1",
            Self::Beta => "v1beta1",
        }
    }
}

/// The first form that is accepted and that there is; text where nobody says.
fn form(accepted: &str, page: Page) -> Option<Form> {
    if accepted.trim().is_empty() {
        return Some(Form::Text);
    }
    accepted.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?;
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let has = |name: &str, value: &str| parameters.contains(&(name, value));
        let version = if has("v", "v1beta1") {
            Some(Version::Beta)
        } else {
            has("v", "v1alpha1").then_some(Version::Alpha)
        };
        let is_named = has("as", page.kind()) && has("g", "config.k8s.io");
        match media {
            "*/*" | "text/*" | "text/plain" => Some(Form::Text),
            "application/json" if is_named => Some(Form::Structured(Syntax::Json, version?)),
            "application/yaml" if is_named => Some(Form::Structured(Syntax::Yaml, version?)),
            _ => None,
        }
    })
}

fn refusal() -> String {
    let message =
        "only text/plain is served, and application/json or application/yaml of a named kind and version";
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "NotAcceptable", "code": 406,
    });
    serde_json::to_string_pretty(&status).unwrap_or_default()
}

/// These pages leave it to the client what they are.
fn plain(mut answer: Answer) -> Answer {
    answer.headers_mut().remove(hyper::header::X_CONTENT_TYPE_OPTIONS);
    answer
}

/// The kube-proxy that we stand in for.
fn emulated() -> String {
    format!("{}.{}", KUBERNETES_VERSION.major, KUBERNETES_VERSION.minor)
}

/// Without the fraction of a second.
fn whole(time: SystemTime) -> SystemTime {
    let age = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UNIX_EPOCH + Duration::from_secs(age.as_secs())
}
