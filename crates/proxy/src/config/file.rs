//! The configuration as a file: read as upstream reads it, and written as `--write-config-to` and `/configz` show it.

use serde_json::{Map, Value, json};
use serde_saphyr::Options;
use serde_saphyr::options::DuplicateKeyPolicy;
use thiserror::Error;

use super::GoDuration;
use super::written::KubeProxyConfiguration;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// As upstream has it.
const NOT_WRITTEN_WHERE_EMPTY: [&str; 5] = [
    "featureGates",
    "logging.options.json.splitStream",
    "logging.options.text.splitStream",
    "logging.vmodule",
    "windowsRunAsService",
];

/// A text that is no configuration; says where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("KubeProxyConfiguration: {0}")]
pub struct SyntaxError(String);

/// Something of a file that was passed over; the rest counts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PassedOver {
    /// No version of kube-proxy has this field.
    #[error("KubeProxyConfiguration has no field {0}")]
    UnknownField(String),
    /// The last one counts.
    #[error("of a field that is written twice the last one counts: {0}")]
    DuplicateField(String),
}

impl KubeProxyConfiguration {
    /// Reads fields, whatever else the text says; null is a field left out.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Self::of(&fields(text, DuplicateKeyPolicy::Error)?)
    }

    /// Reads a configuration file, which tells of itself that it is one.
    pub fn parse_file(text: &str) -> Result<(Self, Vec<PassedOver>), SyntaxError> {
        let mut passed_over = Vec::new();
        let fields = match fields(text, DuplicateKeyPolicy::Error) {
            Ok(fields) => fields,
            Err(error) => {
                let fields = fields(text, DuplicateKeyPolicy::LastWins)?;
                // What its reader says to programmers is of no use here.
                let what = error.0.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
                let what = what.lines().next().unwrap_or_default().to_owned();
                passed_over.push(PassedOver::DuplicateField(what));
                fields
            }
        };
        for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            let found = fields.get(field).and_then(Value::as_str).unwrap_or_default();
            if found != expected {
                return Err(SyntaxError(format!("{field} is {found:?}, and not {expected:?}")));
            }
        }
        let configuration = Self::of(&fields)?;
        note_unknown(&fields, &configuration.as_object(), "", &mut passed_over);
        Ok((configuration, passed_over))
    }

    fn of(fields: &Value) -> Result<Self, SyntaxError> {
        let mut fields = fields.clone();
        if let Value::Object(fields) = &mut fields {
            // What they are by default depends on another field.
            for address in ["healthzBindAddress", "metricsBindAddress"] {
                fields.entry(address).or_insert_with(|| json!(""));
            }
        }
        serde_path_to_error::deserialize(fields)
            .map(Self::defaulted)
            .map_err(|error| SyntaxError(format!("{}: {}", error.path(), error.inner())))
    }

    /// The whole object, with kind and apiVersion.
    #[expect(clippy::missing_panics_doc, reason = "numbers, texts, lists and maps of texts can be written")]
    pub fn as_object(&self) -> Value {
        let fields = serde_json::to_value(self).expect("numbers, texts, lists and maps of texts");
        let mut object =
            Map::from_iter([("apiVersion".to_owned(), json!(API_VERSION)), ("kind".to_owned(), json!(KIND))]);
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        Value::Object(object)
    }

    /// The same as a file.
    #[expect(clippy::missing_panics_doc, reason = "numbers, texts, lists and maps of texts can be written")]
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.shown()).expect("an object can be written")
    }

    /// The object as upstream shows it: the modes that are not chosen say nothing of their sync periods.
    pub fn shown(&self) -> Value {
        let mut shown = self.clone();
        let periods = [
            ("iptables", &mut shown.iptables.sync_period, &mut shown.iptables.min_sync_period),
            ("ipvs", &mut shown.ipvs.sync_period, &mut shown.ipvs.min_sync_period),
            ("nftables", &mut shown.nftables.sync_period, &mut shown.nftables.min_sync_period),
        ];
        for (mode, period, least) in periods {
            if self.mode != mode && matches!(self.mode.as_str(), "iptables" | "ipvs" | "nftables") {
                (*period, *least) = (GoDuration::ZERO, GoDuration::ZERO);
            }
        }
        shown.as_object()
    }
}

/// The fields of a text, without those that say null.
fn fields(text: &str, duplicates: DuplicateKeyPolicy) -> Result<Value, SyntaxError> {
    let fields: Value = serde_saphyr::from_str_with_options(text, options(duplicates))
        .map_err(|error| SyntaxError(error.to_string()))?;
    // A text without a field is a configuration too.
    Ok(if fields.is_null() { Value::Object(Map::new()) } else { without_nulls(fields) })
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! { duplicate_keys: duplicate_keys, with_snippet: false }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let told = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(told.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            other
        }
    }
}

/// Notes every field of a text that an object which was read from it does not have.
fn note_unknown(text: &Value, object: &Value, path: &str, out: &mut Vec<PassedOver>) {
    let (Value::Object(fields), Value::Object(known)) = (text, object) else { return };
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match known.get(name) {
            Some(known) => note_unknown(value, known, &path, out),
            None if NOT_WRITTEN_WHERE_EMPTY.contains(&path.as_str()) => {}
            None => out.push(PassedOver::UnknownField(path)),
        }
    }
}

#[cfg(test)]
mod tests;
