//! Containers.

use std::net::IpAddr;
use std::path::PathBuf;

use super::label;
use super::security::{PodSecurity, security};
use super::volumes::{Place, bytes, field_ref, is_inside, need, quantity_of, resource_ref};
use crate::container::{
    Action, Container, ContainerPort, EnvFrom, EnvSource, EnvVar, Header, Kind, Leave, Mount, NodePort,
    Number, Probe, Protocol, PullPolicy, Resources, Scheme,
};
use crate::fields::Fields;
use crate::quantity;

/// The lists of init containers and containers; there must be one of the latter.
pub(super) fn lists_of_containers<'a>(fields: &mut Fields<'a>) -> (Vec<Fields<'a>>, Vec<Fields<'a>>) {
    let (init, main) = (fields.objects("initContainers"), fields.objects("containers"));
    if main.is_empty() {
        fields.refuse("containers", "is missing, or empty");
    }
    (init, main)
}

pub(super) fn container(mut fields: Fields<'_>, kind: Kind, pod: &PodSecurity) -> Container {
    let kind = kind_of(&mut fields, kind);
    let image = fields.needed("image");
    let container = Container {
        name: label(&mut fields, "name"),
        kind,
        pull: pull_policy(&mut fields, &image),
        image,
        command: fields.texts("command"),
        args: fields.texts("args"),
        working_dir: fields.text("workingDir").map(PathBuf::from),
        ports: fields.objects("ports").into_iter().filter_map(port).collect(),
        env_from: fields.objects("envFrom").into_iter().filter_map(env_from).collect(),
        env: fields.objects("env").into_iter().filter_map(env_var).collect(),
        resources: fields.object("resources").map(resources).unwrap_or_default(),
        mounts: fields.objects("volumeMounts").into_iter().map(mount).collect(),
        liveness: fields.object("livenessProbe").map(probe),
        readiness: fields.object("readinessProbe").map(probe),
        startup: fields.object("startupProbe").map(probe),
        post_start: None,
        pre_stop: None,
        security: security(fields.object("securityContext"), pod),
        termination_message: PathBuf::from(
            fields.text("terminationMessagePath").unwrap_or_else(|| "/dev/termination-log".to_owned()),
        ),
    };
    let container = with_hooks(container, &mut fields);
    if container.kind == Kind::Init {
        for (name, set) in [
            ("livenessProbe", container.liveness.is_some()),
            ("readinessProbe", container.readiness.is_some()),
            ("startupProbe", container.startup.is_some()),
            ("lifecycle", container.post_start.is_some() || container.pre_stop.is_some()),
        ] {
            if set {
                fields.refuse(name, "is not for a container that runs to its end before the others");
            }
        }
    }
    fields.pass_over(&["stdin", "stdinOnce", "tty"], "containers have no terminal; see fairlead pod exec");
    fields.pass_over(&["resizePolicy", "terminationMessagePolicy"], "it has no effect here");
    fields.cannot(&["volumeDevices", "restartPolicyRules"], "is not supported");
    fields.finish();
    container
}

fn kind_of(fields: &mut Fields<'_>, kind: Kind) -> Kind {
    if kind != Kind::Init {
        fields.cannot(&["restartPolicy"], "is for init containers alone");
        return kind;
    }
    fields.choice("restartPolicy", &[("Always", Kind::Sidecar)]).unwrap_or(kind)
}

/// As the API server would decide: a floating tag is asked for each time.
fn pull_policy(fields: &mut Fields<'_>, image: &str) -> PullPolicy {
    let words = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    let name = image.rsplit('/').next().unwrap_or(image);
    let floating = !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
    let usual = if floating { PullPolicy::Always } else { PullPolicy::IfNotPresent };
    fields.choice("imagePullPolicy", &words).unwrap_or(usual)
}

fn port(mut fields: Fields<'_>) -> Option<ContainerPort> {
    let words = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
    let name = fields.text("name");
    let protocol = fields.choice("protocol", &words).unwrap_or_default();
    let port = port_number(&mut fields, "containerPort");
    let node = node_port(&mut fields);
    fields.finish();
    Some(ContainerPort { name, port: port?, protocol, node })
}

/// Port 0 is none, and an address without a port means nothing.
fn node_port(fields: &mut Fields<'_>) -> Option<NodePort> {
    let port = fields.number::<u16>("hostPort").filter(|port| *port > 0);
    let text = fields.text("hostIP").filter(|text| !text.is_empty());
    let ip = text.as_deref().and_then(|text| text.parse().ok());
    if let (Some(text), None) = (text, ip) {
        fields.refuse("hostIP", format!("{text:?} is not an IP address"));
    }
    let is_any = |ip: &IpAddr| ip.is_unspecified();
    port.map(|port| NodePort { port, ip: ip.filter(|ip| !is_any(ip)) })
}

fn port_number(fields: &mut Fields<'_>, name: &str) -> Option<u16> {
    if !fields.has(name) {
        fields.refuse(name, "is missing");
        return None;
    }
    let number = fields.number::<u16>(name)?;
    if number == 0 {
        fields.refuse(name, "0 is not a port");
        return None;
    }
    Some(number)
}

fn env_from(mut fields: Fields<'_>) -> Option<EnvFrom> {
    let prefix = fields.text("prefix").unwrap_or_default();
    let found = [("configMapRef", "ConfigMap"), ("secretRef", "Secret")]
        .into_iter()
        .find_map(|(field, kind)| Some((kind, fields.object(field)?)));
    let Some((kind, mut reference)) = found else {
        fields.refuse("configMapRef", "is missing, and so is secretRef");
        return None;
    };
    let env_from = EnvFrom { prefix, kind, name: reference.needed("name"), need: need(&mut reference) };
    reference.finish();
    fields.finish();
    Some(env_from)
}

fn env_var(mut fields: Fields<'_>) -> Option<EnvVar> {
    let name = fields.needed("name");
    if name.contains(['=', '\0']) {
        fields.refuse("name", format!("{name:?} cannot be the name of a variable"));
    }
    let text = fields.text("value");
    let source = match (text, fields.object("valueFrom")) {
        (text, None) => EnvSource::Text(text.unwrap_or_default()),
        (None, Some(reference)) => env_source(reference)?,
        (Some(_), Some(_)) => {
            fields.refuse("valueFrom", "cannot be together with value");
            return None;
        }
    };
    fields.finish();
    Some(EnvVar { name, source })
}

fn env_source(mut fields: Fields<'_>) -> Option<EnvSource> {
    for (field, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
        if let Some(mut reference) = fields.object(field) {
            let (name, key) = (reference.needed("name"), reference.needed("key"));
            let source = EnvSource::Key { kind, name, key, need: need(&mut reference) };
            reference.finish();
            fields.finish();
            return Some(source);
        }
    }
    let source = if let Some(reference) = fields.object("fieldRef") {
        field_ref(reference, Place::Variable).map(EnvSource::Field)
    } else if let Some(reference) = fields.object("resourceFieldRef") {
        Some(EnvSource::Resource(resource_ref(reference)))
    } else {
        fields.refuse("fieldRef", "is missing, and so is every other source");
        None
    };
    fields.finish();
    source
}

fn resources(mut fields: Fields<'_>) -> Resources {
    let mut resources = Resources::default();
    let passed_over = ["ephemeral-storage", "storage"];
    if let Some(mut limits) = fields.object("limits") {
        resources.memory_limit = bytes(&mut limits, "memory");
        resources.cpu_limit = quantity_of(&mut limits, "cpu", quantity::thousandths);
        limits.pass_over(&passed_over, "it is not limited here");
        limits.finish();
    }
    // What is limited and not requested is requested up to its limit.
    (resources.memory_request, resources.cpu_request) = (resources.memory_limit, resources.cpu_limit);
    if let Some(mut requests) = fields.object("requests") {
        resources.memory_request = bytes(&mut requests, "memory").or(resources.memory_request);
        resources.cpu_request =
            quantity_of(&mut requests, "cpu", quantity::thousandths).or(resources.cpu_request);
        let above =
            |request: Option<u64>, limit| request.zip(limit).is_some_and(|(request, limit)| request > limit);
        if above(resources.memory_request, resources.memory_limit) {
            requests.refuse("memory", "is above its limit");
        }
        if above(resources.cpu_request, resources.cpu_limit) {
            requests.refuse("cpu", "is above its limit");
        }
        requests.pass_over(&passed_over, "it is not limited here");
        requests.finish();
    }
    fields.cannot(&["claims"], "is not supported");
    fields.finish();
    resources
}

fn mount(mut fields: Fields<'_>) -> Mount {
    let path = PathBuf::from(fields.needed("mountPath"));
    if !path.is_absolute() {
        fields.refuse("mountPath", format!("{} is not an absolute path", path.display()));
    }
    let sub_path = match (fields.text("subPath"), fields.text("subPathExpr")) {
        (Some(_), Some(_)) => {
            fields.refuse("subPathExpr", "cannot be together with subPath");
            None
        }
        // A subPath is taken as it is: what would be replaced in it is escaped.
        (Some(path), None) => Some(path.replace("$(", "$$(")),
        (None, expression) => expression,
    };
    if sub_path.as_deref().is_some_and(|path| !is_inside(path.as_ref())) {
        fields.refuse("subPath", "does not lead to a place inside the volume");
    }
    let writing = if fields.is_set("readOnly") { Leave::Refused } else { Leave::Given };
    let words = [("None", ()), ("HostToContainer", ())];
    let _ = fields.choice("mountPropagation", &words);
    fields.cannot(&["recursiveReadOnly"], "is not supported");
    let mount = Mount { volume: fields.needed("name"), path, sub_path, writing };
    fields.finish();
    mount
}

fn probe(mut fields: Fields<'_>) -> Probe {
    let action = action(&mut fields);
    let probe = Probe {
        action: action.unwrap_or(Action::Sleep(0)),
        initial_delay: fields.number("initialDelaySeconds").unwrap_or(0),
        period: fields.number("periodSeconds").filter(|period| *period > 0).unwrap_or(10),
        timeout: fields.number("timeoutSeconds").filter(|timeout| *timeout > 0).unwrap_or(1),
        successes: fields.number("successThreshold").filter(|count| *count > 0).unwrap_or(1),
        failures: fields.number("failureThreshold").filter(|count| *count > 0).unwrap_or(3),
        grace: fields.number("terminationGracePeriodSeconds"),
    };
    if matches!(probe.action, Action::Sleep(_)) {
        fields.refuse("exec", "is missing, and so is every other thing to do");
    }
    fields.finish();
    probe
}

fn with_hooks(mut container: Container, fields: &mut Fields<'_>) -> Container {
    let Some(mut lifecycle) = fields.object("lifecycle") else { return container };
    let mut hook = |name: &str| {
        let mut fields = lifecycle.object(name)?;
        fields.cannot(&["grpc"], "is for probes alone");
        let action = action(&mut fields);
        fields.finish();
        action
    };
    container.post_start = hook("postStart");
    container.pre_stop = hook("preStop");
    lifecycle.cannot(&["stopSignal"], "is not supported");
    lifecycle.finish();
    container
}

/// The thing to do; none, and a word about it, if there is none that can be done.
fn action(fields: &mut Fields<'_>) -> Option<Action> {
    if let Some(mut exec) = fields.object("exec") {
        let command = exec.texts("command");
        if command.is_empty() {
            exec.refuse("command", "is missing, or empty");
        }
        exec.finish();
        return Some(Action::Exec(command));
    }
    if let Some(mut http) = fields.object("httpGet") {
        let schemes = [("HTTP", Scheme::Http), ("HTTPS", Scheme::Https)];
        let action = Action::Http {
            scheme: http.choice("scheme", &schemes).unwrap_or_default(),
            port: number(&mut http, "port")?,
            host: http.text("host"),
            path: http.text("path").unwrap_or_else(|| "/".to_owned()),
            headers: http.objects("httpHeaders").into_iter().map(header).collect(),
        };
        http.finish();
        return Some(action);
    }
    if let Some(mut tcp) = fields.object("tcpSocket") {
        let action = Action::Tcp { port: number(&mut tcp, "port")?, host: tcp.text("host") };
        tcp.finish();
        return Some(action);
    }
    if let Some(mut grpc) = fields.object("grpc") {
        let service = grpc.text("service").unwrap_or_default();
        let action = port_number(&mut grpc, "port").map(|port| Action::Grpc { port, service });
        grpc.finish();
        return action;
    }
    let mut sleep = fields.object("sleep")?;
    let seconds = sleep.number("seconds").unwrap_or_default();
    sleep.finish();
    Some(Action::Sleep(seconds))
}

fn header(mut fields: Fields<'_>) -> Header {
    let header = Header { name: fields.needed("name"), value: fields.text("value").unwrap_or_default() };
    if [&header.name, &header.value].into_iter().any(|text| text.contains(['\r', '\n'])) {
        fields.refuse("value", "has a line break in it");
    }
    fields.finish();
    header
}

fn number(fields: &mut Fields<'_>, name: &str) -> Option<Number> {
    match fields.peek(name).and_then(|value| value.as_str()) {
        Some(_) => Some(Number::Named(fields.needed(name))),
        None => port_number(fields, name).map(Number::Port),
    }
}
