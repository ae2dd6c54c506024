//! What is asked of the API server, under the names of the library that kube-proxy asks it with.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Registry};
use service_watch::Exchange;

use super::{counters, registered};

/// All of it, by the server's host.
pub(super) struct RestClient {
    requests: IntCounterVec,
    duration: HistogramVec,
    sent: HistogramVec,
    received: HistogramVec,
}

const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const BYTES: [f64; 11] = [
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

impl RestClient {
    pub(super) fn new(add: &Registry) -> Self {
        let histograms = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(format!("rest_client_{name}"), help).buckets(buckets.to_vec());
            registered(add, HistogramVec::new(options, &["verb", "host"]))
        };
        Self {
            requests: counters(
                add,
                "rest_client_requests_total",
                "Requests to the API server, by what became of them.",
                &["code", "method", "host"],
            ),
            duration: histograms(
                "request_duration_seconds",
                "From a request to the end of its answer; watches have none.",
                &SECONDS,
            ),
            sent: histograms("request_size_bytes", "Sizes of requests.", &BYTES),
            received: histograms("response_size_bytes", "Sizes of answers.", &BYTES),
        }
    }

    pub(super) fn count(&self, host: &str, exchange: &Exchange) {
        match exchange {
            Exchange::Answered { method, status } => {
                let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
                self.requests.with_label_values(&[code.as_str(), method.as_str(), host]).inc();
            }
            Exchange::Read { method, took, sent, received } => {
                let labels = &[method.as_str(), host];
                self.duration.with_label_values(labels).observe(took.as_secs_f64());
                self.sent.with_label_values(labels).observe(size(*sent));
                self.received.with_label_values(labels).observe(size(*received));
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody sends 2^52 bytes")]
fn size(bytes: usize) -> f64 {
    bytes as f64
}
