//! Users and passwords of registries, as `docker login` and image pull secrets keep them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64;
use serde::Deserialize;
use thiserror::Error;

use crate::reference::Name;

/// Credentials by registry, or by repositories of one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, String>);

/// Why a file holds no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// Not the JSON that docker writes.
    #[error("no docker config.json")]
    Json(#[from] serde_json::Error),
    /// An entry that is not `USER:PASSWORD` in base64.
    #[error("auths[{0:?}].auth is not USER:PASSWORD in base64")]
    Auth(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Those of a docker config.json, or of a Secret's `.dockerconfigjson`. Programs that it names are not asked.
    pub fn of_docker_config(json: &[u8]) -> Result<Self, CredentialsError> {
        let file: File = serde_json::from_slice(json)?;
        let mut credentials = BTreeMap::new();
        for (place, auth) in file.auths {
            let pair = match (auth.auth, auth.username, auth.password) {
                (_, Some(user), Some(password)) => format!("{user}:{password}"),
                (Some(auth), ..) if !auth.is_empty() => {
                    let bytes = BASE64.decode(auth.trim().as_bytes()).ok();
                    let pair = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                    let pair = pair.filter(|pair| pair.contains(':'));
                    pair.ok_or_else(|| CredentialsError::Auth(place.clone()))?
                }
                // A login that a program keeps.
                _ => continue,
            };
            credentials.insert(normal(&place), pair);
        }
        Ok(Self(credentials))
    }

    /// For an image: `Basic` and what follows it. The longest place that the image lies in wins.
    pub(crate) fn basic(&self, name: &Name) -> Option<String> {
        let image = format!("{}/{}", name.host, name.repository);
        let lies_in = |place: &str| {
            image.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let places = self.0.iter().filter(|(place, _)| lies_in(place));
        let (_, pair) = places.max_by_key(|(place, _)| place.len())?;
        Some(format!("Basic {}", BASE64.encode(pair.as_bytes())))
    }
}

/// Secrets are not printed.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Docker writes some places as addresses of its old interface.
fn normal(place: &str) -> String {
    let place = place.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let place = place.trim_end_matches("/v1").trim_end_matches("/v2").trim_end_matches('/');
    match place.split_once('/').map_or(place, |(host, _)| host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => place.to_owned(),
    }
}
