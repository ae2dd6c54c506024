//! Security contexts: the container's over the pod's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::container::{Capabilities, Leave, Privileges, Seccomp, Security};
use crate::fields::{At, Fields};
use crate::pod::Sysctls;

/// What a pod says for all its containers.
#[derive(Debug, Default)]
pub(super) struct PodSecurity {
    common: Security,
    pub(super) fs_group: Option<u32>,
    pub(super) sysctls: Sysctls,
}

pub(super) fn pod_security(mut fields: Fields<'_>) -> PodSecurity {
    let mut common = Security::default();
    both(&mut fields, &mut common);
    common.groups = fields.list("supplementalGroups").into_iter().filter_map(At::number).collect();
    let fs_group = fields.number("fsGroup");
    common.groups.extend(fs_group);
    let mut sysctls = BTreeMap::new();
    for mut sysctl in fields.objects("sysctls") {
        sysctls.insert(sysctl.needed("name"), sysctl.needed("value"));
        sysctl.finish();
    }
    fields.pass_over(&["fsGroupChangePolicy"], "owners are set when the pod is made");
    fields.cannot(&["supplementalGroupsPolicy"], "is not supported");
    fields.finish();
    PodSecurity { common, fs_group, sysctls }
}

pub(super) fn security(fields: Option<Fields<'_>>, pod: &PodSecurity) -> Security {
    let mut security = pod.common.clone();
    let Some(mut fields) = fields else { return security };
    both(&mut fields, &mut security);
    if fields.is_set("privileged") {
        security.privileges = Privileges::All;
    }
    if fields.is_set("readOnlyRootFilesystem") {
        security.root_fs = Leave::Refused;
    }
    match fields.flag("allowPrivilegeEscalation") {
        Some(false) if security.privileges == Privileges::All => {
            fields.refuse("allowPrivilegeEscalation", "cannot be false where privileged is true");
        }
        Some(false) => security.escalation = Leave::Refused,
        Some(true) | None => {}
    }
    if let Some(mut capabilities) = fields.object("capabilities") {
        let names = |names: Vec<String>| {
            names.into_iter().map(|name| name.trim_start_matches("CAP_").to_owned()).collect()
        };
        security.capabilities =
            Capabilities { add: names(capabilities.texts("add")), drop: names(capabilities.texts("drop")) };
        capabilities.finish();
    }
    fields.cannot(&["procMount"], "is not supported");
    fields.finish();
    security
}

/// What both kinds of context may say.
fn both(fields: &mut Fields<'_>, security: &mut Security) {
    security.user = fields.number("runAsUser").or(security.user);
    security.group = fields.number("runAsGroup").or(security.group);
    match fields.flag("runAsNonRoot") {
        Some(true) => security.root = Leave::Refused,
        Some(false) => security.root = Leave::Given,
        None => {}
    }
    if security.root == Leave::Refused && security.user == Some(0) {
        fields.refuse("runAsUser", "cannot be 0 where runAsNonRoot is true");
    }
    if let Some(profile) = fields.object("seccompProfile") {
        security.seccomp = seccomp(profile);
    }
    fields.pass_over(
        &["seLinuxOptions", "seLinuxChangePolicy", "appArmorProfile", "windowsOptions"],
        "it is not set here",
    );
}

fn seccomp(mut fields: Fields<'_>) -> Seccomp {
    let file = fields.text("localhostProfile");
    let words = [("RuntimeDefault", 'd'), ("Unconfined", 'u'), ("Localhost", 'f')];
    let seccomp = match (fields.choice("type", &words), file) {
        (Some('f'), Some(file)) => Seccomp::File(PathBuf::from(file)),
        (Some('f'), None) => {
            fields.refuse("localhostProfile", "is missing");
            Seccomp::default()
        }
        (Some('u'), None) => Seccomp::Unconfined,
        (_, None) => Seccomp::RuntimeDefault,
        (_, Some(_)) => {
            fields.refuse("localhostProfile", "is for type Localhost alone");
            Seccomp::default()
        }
    };
    fields.finish();
    seccomp
}
