//! `--version` in kube-proxy's forms: whoever asks wants to know which Kubernetes the proxy is for.

use proxy::KUBERNETES_VERSION;

/// What `--version` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To print this, and nothing else.
    Print(String),
    /// Nothing.
    Nothing,
}

/// Reads the value of `--version`.
pub(super) fn asked(text: &str) -> Result<Asked, String> {
    match text {
        "true" | "TRUE" | "True" | "t" | "T" | "1" => Ok(Asked::Print(format!("Kubernetes {}", version()))),
        "false" | "FALSE" | "False" | "f" | "F" | "0" => Ok(Asked::Nothing),
        "raw" => Ok(Asked::Print(raw())),
        // It would be the version that kube-proxy reports of itself.
        given if is_ours(given) => Ok(Asked::Nothing),
        _ => Err(format!("it is neither true, false nor raw, nor like {KUBERNETES_VERSION}-…")),
    }
}

/// Ours is a build of its own, as those of distributions are.
fn version() -> String {
    format!("{KUBERNETES_VERSION}+fairlead-{}", env!("CARGO_PKG_VERSION"))
}

fn raw() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "version.Info{{Major:\"{}\", Minor:\"{}\", GitVersion:\"{}\", Compiler:\"rustc\", Platform:\"linux/{machine}\"}}",
        KUBERNETES_VERSION.major,
        KUBERNETES_VERSION.minor,
        version()
    )
}

fn is_ours(given: &str) -> bool {
    let rest = given.strip_prefix(&KUBERNETES_VERSION.to_string());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_told_apart() {
        assert_eq!(asked("true"), Ok(Asked::Print("Kubernetes v1.36.1+fairlead-0.1.0".to_owned())));
        let Ok(Asked::Print(raw)) = asked("raw") else { panic!("it prints") };
        assert!(
            raw.starts_with("version.Info{Major:\"1\", Minor:\"36\", GitVersion:\"v1.36.1+fairlead-"),
            "{raw}"
        );
        for text in ["false", "v1.36.1", "v1.36.1-mine"] {
            assert_eq!(asked(text), Ok(Asked::Nothing), "{text}");
        }
        for text in ["", "yes", "1.36.1", "v1.36.10", "v1.35.0"] {
            assert!(asked(text).is_err(), "{text}");
        }
    }
}
