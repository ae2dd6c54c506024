//! Images in a registry, by the distribution specification.

mod challenge;
mod client;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use tokio::runtime::Runtime;

use crate::choose::{Blobs, Chosen, from};
use crate::credentials::Credentials;
use crate::error::Problem;
use crate::oci::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, INDEX, MANIFEST};
use crate::reference::Name;
use crate::verify::{DOCUMENT_LIMIT, compare};
use crate::{Digest, Limits};
use client::{Client, Wanted};

/// One repository of a registry.
pub(crate) struct Registry<'a> {
    name: &'a Name,
    client: Client,
    runtime: Runtime,
    scratch: &'a Path,
    limits: Limits,
}

/// An image in a registry, with the document that its name led to.
pub(crate) struct Pulled<'a> {
    registry: &'a Registry<'a>,
    top: Descriptor,
    document: Vec<u8>,
}

/// Every kind of document that we read, and that we would rather have an index.
const DOCUMENTS: [&str; 4] = [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

impl<'a> Registry<'a> {
    pub(crate) fn new(
        name: &'a Name,
        credentials: &Credentials,
        scratch: &'a Path,
        limits: Limits,
    ) -> Result<Self, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| Problem::File { what: "start a runtime".to_owned(), source })?;
        let client = Client::new(&name.host, credentials.basic(name))?;
        Ok(Self { name, client, runtime, scratch, limits })
    }

    /// What the name leads to.
    pub(crate) fn pulled(&'a self) -> Result<Pulled<'a>, Problem> {
        let Name { repository, tag, digest, .. } = self.name;
        let wanted = digest.as_ref().map(ToString::to_string).or_else(|| tag.clone());
        let path = format!("/v2/{repository}/manifests/{}", wanted.unwrap_or_default());
        let wanted = Wanted { path: &path, accept: &DOCUMENTS.join(", "), limit: DOCUMENT_LIMIT };
        let mut file = self.scratch_file()?;
        let media_type = self.runtime.block_on(self.client.fetch(wanted, &mut file))?;
        let document = read_back(&mut file)?;
        let found = Digest::of(&document);
        let digest = match digest {
            Some(promised) => {
                let found = if promised.is_of(&document) { promised.clone() } else { found };
                compare("the manifest", promised, found)?;
                promised.clone()
            }
            None => found,
        };
        let media_type = if DOCUMENTS.contains(&media_type.as_str()) { media_type } else { String::new() };
        let top = Descriptor {
            media_type,
            digest,
            size: document.len() as u64,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        };
        Ok(Pulled { registry: self, top, document })
    }

    fn scratch_file(&self) -> Result<File, Problem> {
        tempfile::tempfile_in(self.scratch).map_err(Problem::file("write a file in", self.scratch))
    }
}

impl Pulled<'_> {
    pub(crate) fn chosen(&self) -> Result<Chosen, Problem> {
        from(self, &self.top)
    }
}

impl Blobs for Pulled<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + '_>, Problem> {
        if blob.digest == self.top.digest {
            return Ok(Box::new(self.document.as_slice()));
        }
        let Registry { name, client, runtime, limits, .. } = self.registry;
        if blob.size > limits.bytes {
            return Err(Problem::TooLarge { what: format!("the blob {}", blob.digest), limit: limits.bytes });
        }
        let is_document = DOCUMENTS.contains(&blob.media_type.as_str());
        let (kind, accept) = if is_document { ("manifests", &*blob.media_type) } else { ("blobs", "*/*") };
        let path = format!("/v2/{}/{kind}/{}", name.repository, blob.digest);
        let mut file = self.registry.scratch_file()?;
        // Bytes beyond the promised size are not waited for: one more tells that there are any.
        let wanted = Wanted { path: &path, accept, limit: blob.size };
        runtime.block_on(client.fetch(wanted, &mut file))?;
        file.rewind().map_err(|source| Problem::File { what: format!("read {}", blob.digest), source })?;
        Ok(Box::new(file))
    }
}

fn read_back(file: &mut File) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    read.map_err(|source| Problem::File { what: "read the manifest".to_owned(), source })?;
    Ok(bytes)
}
