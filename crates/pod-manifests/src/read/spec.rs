//! The specification of a pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::container::{container, lists_of_containers};
use super::label;
use super::security::{PodSecurity, pod_security};
use super::volumes::volumes;
use crate::container::{Container, Kind};
use crate::fields::Fields;
use crate::pod::{Dns, DnsPolicy, HostAlias, Network, Pids, PodSpec, RestartPolicy, Shared, Users};

pub(super) fn spec(mut fields: Fields<'_>) -> PodSpec {
    let security = fields.object("securityContext").map(pod_security).unwrap_or_default();
    let restart = fields.choice(
        "restartPolicy",
        &[
            ("Always", RestartPolicy::Always),
            ("OnFailure", RestartPolicy::OnFailure),
            ("Never", RestartPolicy::Never),
        ],
    );
    let shared = shared(&mut fields);
    let (init_containers, containers) = containers(&mut fields, &security);
    let spec = PodSpec {
        init_containers,
        containers,
        restart: restart.unwrap_or_default(),
        volumes: volumes(&mut fields),
        shared,
        hostname: fields.has("hostname").then(|| label(&mut fields, "hostname")),
        subdomain: fields.has("subdomain").then(|| label(&mut fields, "subdomain")),
        host_aliases: fields.objects("hostAliases").into_iter().filter_map(host_alias).collect(),
        dns: dns(&mut fields),
        grace: fields.number("terminationGracePeriodSeconds").unwrap_or(30),
        deadline: fields.number("activeDeadlineSeconds"),
        fs_group: security.fs_group,
        sysctls: security.sysctls,
        node_name: fields.text("nodeName"),
        service_account: fields
            .text("serviceAccountName")
            .or_else(|| fields.text("serviceAccount"))
            .unwrap_or_else(|| "default".to_owned()),
    };
    passed_over(&mut fields);
    mounts_have_volumes(&spec, &fields);
    fields.finish();
    spec
}

fn passed_over(fields: &mut Fields<'_>) {
    fields.pass_over(
        &[
            "affinity",
            "nodeSelector",
            "preemptionPolicy",
            "priority",
            "priorityClassName",
            "runtimeClassName",
            "schedulerName",
            "schedulingGates",
            "tolerations",
            "topologySpreadConstraints",
        ],
        "there is one node and no scheduler",
    );
    fields.pass_over(&["readinessGates"], "nobody sets such conditions");
    fields.pass_over(&["enableServiceLinks"], "no variables are made of Services");
    fields.pass_over(
        &["automountServiceAccountToken", "imagePullSecrets", "serviceAccount"],
        "there is no API server",
    );
    fields.pass_over(&["setHostnameAsFQDN", "overhead", "os"], "it has no effect here");
    fields.cannot(
        &["ephemeralContainers", "resourceClaims", "resources", "hostnameOverride", "workloadRef"],
        "is not supported",
    );
}

fn shared(fields: &mut Fields<'_>) -> Shared {
    let node = |set| if set { Network::Node } else { Network::Pod };
    let network = node(fields.is_set("hostNetwork"));
    let ipc = node(fields.is_set("hostIPC"));
    let (host_pid, share) = (fields.is_set("hostPID"), fields.is_set("shareProcessNamespace"));
    let pids = match (host_pid, share) {
        (true, true) => {
            fields.refuse("shareProcessNamespace", "cannot be together with hostPID");
            Pids::Node
        }
        (true, false) => Pids::Node,
        (false, true) => Pids::Pod,
        (false, false) => Pids::Container,
    };
    let users = match fields.flag("hostUsers") {
        Some(false) => Users::Pod,
        Some(true) | None => Users::Node,
    };
    if users == Users::Pod && (network == Network::Node || ipc == Network::Node || pids == Pids::Node) {
        fields.refuse("hostUsers", "cannot be false together with hostNetwork, hostPID or hostIPC");
    }
    Shared { network, pids, ipc, users }
}

fn containers(fields: &mut Fields<'_>, security: &PodSecurity) -> (Vec<Container>, Vec<Container>) {
    let (init, main) = lists_of_containers(fields);
    let mut names = BTreeMap::new();
    let mut read = |fields: Fields<'_>, kind: Kind| {
        let path = fields.path().to_owned();
        let notes = fields.notes();
        let container = container(fields, kind, security);
        if let Some(earlier) = names.insert(container.name.clone(), path.clone()) {
            notes.refuse(
                format_args!("{path}.name"),
                format!("{:?} is the name of {earlier}", container.name),
            );
        }
        container
    };
    let init = init.into_iter().map(|fields| read(fields, Kind::Init)).collect();
    let main = main.into_iter().map(|fields| read(fields, Kind::Main)).collect();
    (init, main)
}

fn mounts_have_volumes(spec: &PodSpec, fields: &Fields<'_>) {
    for (list, containers) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (index, container) in containers.iter().enumerate() {
            for (number, mount) in container.mounts.iter().enumerate() {
                if !spec.volumes.iter().any(|volume| volume.name == mount.volume) {
                    fields.notes().refuse(
                        format_args!("{}.{list}[{index}].volumeMounts[{number}].name", fields.path()),
                        format!("there is no volume {:?}", mount.volume),
                    );
                }
            }
        }
    }
}

fn host_alias(mut fields: Fields<'_>) -> Option<HostAlias> {
    let ip = address(&mut fields, "ip");
    let hostnames = fields.texts("hostnames");
    for name in hostnames.iter().filter(|name| name.is_empty() || name.contains(char::is_whitespace)) {
        fields.refuse("hostnames", format!("{name:?} is not a host name"));
    }
    fields.finish();
    Some(HostAlias { ip: ip?, hostnames })
}

fn address(fields: &mut Fields<'_>, name: &str) -> Option<IpAddr> {
    let text = fields.needed(name);
    let address = text.parse().ok();
    if address.is_none() && !text.is_empty() {
        fields.refuse(name, format!("{text:?} is not an IP address"));
    }
    address
}

fn dns(fields: &mut Fields<'_>) -> Dns {
    let policy = fields.choice(
        "dnsPolicy",
        &[
            ("ClusterFirst", DnsPolicy::Node),
            ("ClusterFirstWithHostNet", DnsPolicy::Node),
            ("Default", DnsPolicy::Node),
            ("None", DnsPolicy::None),
        ],
    );
    let mut dns = Dns { policy: policy.unwrap_or_default(), ..Dns::default() };
    let Some(mut config) = fields.object("dnsConfig") else { return dns };
    for at in config.list("nameservers") {
        match at.value().as_str().and_then(|text| text.parse().ok()) {
            Some(address) => dns.nameservers.push(address),
            None => drop(at.wrong::<()>("an IP address")),
        }
    }
    dns.searches = config.texts("searches");
    for mut option in config.objects("options") {
        let (name, value) = (option.needed("name"), option.text("value"));
        dns.options.push(value.map_or(name.clone(), |value| format!("{name}:{value}")));
        option.finish();
    }
    config.finish();
    let words = dns.searches.iter().chain(&dns.options);
    if words.into_iter().any(|word| word.contains(char::is_whitespace)) {
        fields.refuse("dnsConfig", "has a name with a space in it");
    }
    dns
}
