//! The pages of the health port and of the metrics port.

use std::sync::Arc;

use hyper::header::HeaderName;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::Told;
use super::about::Page;
use super::answer::{Answer, JSON, answer, not_found, text};
use super::conversation::Pages;
use crate::config::Profiling;
use crate::health::{Question, Verdict};

/// What a load balancer and a kubelet ask.
pub(super) fn health(told: &Told) -> Pages {
    let told = told.clone();
    Arc::new(move |request| match request.uri.path() {
        "/healthz" => health_of(&told, Question::Node),
        "/livez" => health_of(&told, Question::Proxy),
        _ => not_found(),
    })
}

/// What an operator asks.
pub(super) fn metrics(told: &Told) -> Pages {
    let told = told.clone();
    Arc::new(move |request| page(&told, request))
}

fn health_of(told: &Told, question: Question) -> Answer {
    let (verdict, report) = told.health.report(question);
    let status = match verdict {
        Verdict::Well => StatusCode::OK,
        Verdict::Unwell => StatusCode::SERVICE_UNAVAILABLE,
    };
    told.metrics.answered(question, status.as_u16());
    let body = serde_json::to_vec(&report).expect("text and numbers");
    answer(status, JSON, body)
}

fn page(told: &Told, request: &Parts) -> Answer {
    const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    let about = &told.about;
    match request.uri.path() {
        "/metrics" => started(told, answer(StatusCode::OK, METRICS, told.metrics.text())),
        "/metrics/slis" if request.method == Method::DELETE => text(StatusCode::OK, "metrics reset\n"),
        "/metrics/slis" => started(told, answer(StatusCode::OK, METRICS, SLIS)),
        "/healthz" => ping(request.uri.query().unwrap_or_default()),
        "/healthz/ping" => text(StatusCode::OK, "ok"),
        "/proxyMode" => text(StatusCode::OK, about.mode),
        "/configz" => answer(StatusCode::OK, JSON, about.configz()),
        "/flagz" => about.page(Page::Flagz, request),
        "/statusz" => about.page(Page::Statusz, request),
        path if path.starts_with("/debug/") && about.profiling == Profiling::On => no_profiles(),
        _ => not_found(),
    }
}

/// This port has no checks of its own: it answers, and that is all it tells.
fn ping(query: &str) -> Answer {
    let asks = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
    let is_excluded = query.split('&').any(|part| part == "exclude=ping");
    let body = match (asks("verbose"), is_excluded) {
        (false, _) => "ok",
        (true, false) => "[+]ping ok\nhealthz check passed\n",
        (true, true) => "[+]ping excluded: ok\nhealthz check passed\n",
    };
    text(StatusCode::OK, body)
}

/// What /healthz of this port tells, as metrics.
const SLIS: &str = "# HELP kubernetes_healthcheck The result of a health check; 1 is well.\n\
                    # TYPE kubernetes_healthcheck gauge\n\
                    kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1\n";

fn started(told: &Told, mut answer: Answer) -> Answer {
    let name = HeaderName::from_static("process-start-time-unix");
    answer.headers_mut().insert(name, told.about.started_seconds().into());
    answer
}

fn no_profiles() -> Answer {
    text(
        StatusCode::NOT_IMPLEMENTED,
        "fairlead is no Go program and has no pprof profiles; ask perf(1) or bpftrace(8) of this process instead\n",
    )
}
