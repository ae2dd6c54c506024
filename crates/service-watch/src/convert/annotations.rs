//! Our own annotations. A wrong one is passed over with a remark: nobody loses a Service by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifest_documents::Findings;
use serde_json::{Map, Value};
use service_plan::{ClientHeader, SliceEndpoint, Weight};

use crate::lenient;
use crate::wire::Annotations;

const WEIGHTS: &str = "metadata.annotations[fairlead.dev/weights]";
const PROXY_PROTOCOL: &str = "metadata.annotations[fairlead.dev/proxy-protocol]";
const SCHEDULER: &str = "metadata.annotations[fairlead.dev/ipvs-scheduler]";

/// The weights of a Service, by node or zone.
pub(super) fn weights_by_name(
    annotations: &Annotations,
    findings: &mut Findings,
) -> BTreeMap<Arc<str>, Weight> {
    weights(annotations, findings).into_iter().map(|(name, weight)| (name.into(), weight)).collect()
}

/// The endpoints of a slice with the weights that it gives them, by address.
pub(super) fn weighted(
    mut endpoints: Vec<SliceEndpoint>,
    annotations: &Annotations,
    findings: &mut Findings,
) -> Vec<SliceEndpoint> {
    for (name, weight) in weights(annotations, findings) {
        let address = lenient::ip(&name);
        let mut found = endpoints.iter_mut().filter(|endpoint| Some(endpoint.address) == address).peekable();
        if found.peek().is_none() {
            findings
                .remark(WEIGHTS, format!("{name:?} is no address of an endpoint here, and is passed over"));
        }
        found.for_each(|endpoint| endpoint.weight = Some(weight));
    }
    endpoints
}

/// The scheduler that a Service asks for, if it can be the name of one.
pub(super) fn scheduler(annotations: &Annotations, findings: &mut Findings) -> Option<Arc<str>> {
    let name = annotations.scheduler.as_deref()?;
    let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=15).contains(&name.len()) && name.bytes().all(known) {
        return Some(name.into());
    }
    findings
        .remark(SCHEDULER, format!("{name:?} is not the name of a scheduler like wrr, and is passed over"));
    None
}

/// What the endpoints of a Service are to be told of their clients.
pub(super) fn header(annotations: &Annotations, findings: &mut Findings) -> ClientHeader {
    match annotations.proxy_protocol.as_deref() {
        None => ClientHeader::None,
        Some("v2") => ClientHeader::ProxyV2,
        Some(other) => {
            findings.remark(PROXY_PROTOCOL, format!("{other:?} is not v2, and is passed over"));
            ClientHeader::None
        }
    }
}

fn weights(annotations: &Annotations, findings: &mut Findings) -> Vec<(String, Weight)> {
    let Some(text) = annotations.weights.as_deref() else { return Vec::new() };
    let Ok(map) = serde_json::from_str::<Map<String, Value>>(text) else {
        findings.remark(WEIGHTS, "is not a JSON object like {\"10.0.0.1\": 50}, and is passed over");
        return Vec::new();
    };
    let mut weights = Vec::new();
    for (name, value) in map {
        match value.as_u64().and_then(|number| u8::try_from(number).ok()).and_then(Weight::new) {
            Some(weight) => weights.push((name, weight)),
            None => findings
                .remark(WEIGHTS, format!("{name:?}: {value} is not between 0 and 100, and is passed over")),
        }
    }
    weights
}
