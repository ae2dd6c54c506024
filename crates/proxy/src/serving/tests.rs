//! What is answered, page by page.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use service_plan::Family;
use service_watch::Eligibility;

use super::about::About;
use super::{Told, pages};
use crate::config::Profiling;
use crate::health::ProxyHealth;
use crate::metrics::Metrics;

fn told(profiling: Profiling) -> Told {
    Told {
        health: Arc::new(ProxyHealth::new(Duration::from_hours(1), Some(Eligibility::Eligible))),
        metrics: Arc::new(Metrics::new()),
        about: Arc::new(About {
            mode: "nftables",
            configz: Mutex::new("{}".to_owned()),
            flags: vec![("bind-address".to_owned(), "0.0.0.0".to_owned()), ("v".to_owned(), "2".to_owned())],
            started: SystemTime::now(),
            profiling,
        }),
    }
}

/// The status and the type of what is answered on the metrics port.
fn asked(path: &str, accept: &str, profiling: Profiling) -> (StatusCode, String) {
    let request = Request::builder().uri(path).header(ACCEPT, accept).body(()).expect("a request");
    let answer = pages::metrics(&told(profiling))(&request.into_parts().0);
    let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::to_str);
    (answer.status(), kind.expect("a type").expect("text").to_owned())
}

#[test]
fn each_page_is_of_its_type() {
    const TEXT: &str = "text/plain; charset=utf-8";
    for (path, kind) in [
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/metrics/slis", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", TEXT),
        ("/healthz/ping", TEXT),
        ("/healthz?verbose&exclude=ping", TEXT),
        ("/proxyMode", TEXT),
        ("/configz", "application/json"),
        ("/flagz", TEXT),
        ("/statusz", TEXT),
    ] {
        assert_eq!(asked(path, "*/*", Profiling::Off), (StatusCode::OK, kind.to_owned()), "{path}");
    }
    for path in ["/", "/metrics/", "/livez", "/debug/pprof/", "/debug/flags/v"] {
        assert_eq!(asked(path, "*/*", Profiling::Off).0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn profiles_are_refused_in_words_where_they_are_asked_for() {
    for path in ["/debug/pprof/", "/debug/pprof/heap", "/debug/flags/v"] {
        assert_eq!(asked(path, "*/*", Profiling::On).0, StatusCode::NOT_IMPLEMENTED, "{path}");
    }
}

#[test]
fn programs_name_the_kind_and_version_that_they_read() {
    for (page, kind) in [("/statusz", "Statusz"), ("/flagz", "Flagz")] {
        let structured = |syntax: &str, version: &str| {
            let accept = format!("application/{syntax};as={kind};v={version};g=config.k8s.io");
            let wanted = format!("application/{syntax};g=config.k8s.io;v={version};as={kind}");
            assert_eq!(asked(page, &accept, Profiling::Off), (StatusCode::OK, wanted), "{accept}");
        };
        structured("json", "v1beta1");
        structured("json", "v1alpha1");
        structured("yaml", "v1beta1");
        for accept in ["application/json", "application/json;as=Other;v=v1beta1;g=config.k8s.io", "text/html"]
        {
            assert_eq!(asked(page, accept, Profiling::Off).0, StatusCode::NOT_ACCEPTABLE, "{accept}");
        }
        for accept in ["", "text/plain", "text/html, */*;q=0.8"] {
            assert_eq!(asked(page, accept, Profiling::Off).0, StatusCode::OK, "{accept}");
        }
    }
}

#[test]
fn health_is_answered_and_counted() {
    let told = told(Profiling::Off);
    told.health.updated(Family::V4);
    let ask = |path: &str| {
        let request = Request::builder().method(Method::HEAD).uri(path).body(()).expect("a request");
        pages::health(&told)(&request.into_parts().0).status()
    };
    assert_eq!(
        (ask("/healthz"), ask("/livez"), ask("/metrics")),
        (StatusCode::OK, StatusCode::OK, StatusCode::NOT_FOUND)
    );
    told.health.node(Eligibility::Leaving);
    assert_eq!((ask("/healthz"), ask("/livez")), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK));
    let text = String::from_utf8(told.metrics.text()).expect("text");
    for line in [
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
        "kubeproxy_proxy_livez_total{code=\"200\"} 2",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
