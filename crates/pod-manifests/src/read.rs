//! From the fields of a manifest to a pod: read once, here, and never again.

mod container;
mod security;
mod spec;
mod volumes;

use serde_json::{Map, Value};

use crate::fields::{Fields, Notes};
use crate::manifests::{ObjectName, is_name};
use crate::pod::Pod;

/// A Pod.
pub(crate) fn pod(object: Map<String, Value>, name: ObjectName, notes: &Notes) -> Pod {
    let manifest = object.clone();
    let mut fields = Fields::of(object, notes);
    drop((fields.take("apiVersion"), fields.take("kind"), fields.take("status")));
    let pod = rest(&mut fields, name, manifest);
    fields.finish();
    pod
}

/// The template of a Deployment's pods, which has the Deployment's namespace and, until it gets its own, name.
pub(crate) fn template(mut fields: Fields<'_>, manifest: Map<String, Value>, name: ObjectName) -> Pod {
    drop((fields.take("apiVersion"), fields.take("kind")));
    let pod = rest(&mut fields, name, manifest);
    fields.finish();
    pod
}

fn rest(fields: &mut Fields<'_>, name: ObjectName, manifest: Map<String, Value>) -> Pod {
    // Of all the metadata that an API server adds, only these mean anything to a pod.
    let metadata = fields.object("metadata");
    let (uid, labels, annotations) = metadata.map_or_else(Default::default, |mut metadata| {
        (metadata.text("uid"), metadata.texts_by_name("labels"), metadata.texts_by_name("annotations"))
    });
    let spec = spec::spec(fields.needed_object("spec"));
    Pod { name, uid, labels, annotations, spec, manifest }
}

/// A name that becomes part of a path and of host names: a label of DNS.
fn label(fields: &mut Fields<'_>, field: &str) -> String {
    let text = fields.needed(field);
    if !text.is_empty() && (text.len() > 63 || text.contains('.') || !is_name(&text)) {
        let message = format!("{text:?} is not a name (at most 63 lower-case letters, digits and \"-\")");
        fields.refuse(field, message);
    }
    text
}
