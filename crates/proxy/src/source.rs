//! Where the facts come from: a directory of manifests, an API server, or somebody in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use service_plan::{LocalPodsSetting, Settings};
use service_watch::{
    Access, Api, Batch, Eligibility, Exchanges, Feed, Following, Manifests, NodeNeeds, Notices, Patience,
    Watching,
};

use crate::conductor::ProxyError;
use crate::knowledge::{Knowledge, Listed};

/// What tells of Services, endpoints and this node.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// An API server.
    Api(Access),
    /// Somebody in this process.
    Fed(Feed),
}

/// An origin that was opened.
pub(crate) enum Source {
    Manifests(Box<Manifests>),
    Api(Box<Api>),
    Fed(Feed),
}

/// It sends until this is dropped.
pub(crate) enum Sending {
    Manifests { _until_dropped: Watching },
    Api { until_dropped: Following },
    Fed,
}

impl Sending {
    /// The way for notices to those who gave the objects.
    pub(crate) fn notices(&self) -> Notices {
        match self {
            Self::Manifests { .. } | Self::Fed => Notices::unread(),
            Self::Api { until_dropped } => until_dropped.notices(),
        }
    }
}

impl Source {
    pub(crate) fn open(
        origin: &Origin,
        node_name: &Arc<str>,
        settings: &Settings,
        exchanges: Exchanges,
    ) -> Result<Self, ProxyError> {
        match origin {
            Origin::Manifests(directory) => {
                Ok(Self::Manifests(Box::new(Manifests::open(directory.clone(), node_name)?)))
            }
            Origin::Api(access) => {
                let needs = match settings.local_pods {
                    LocalPodsSetting::NodeRanges => NodeNeeds::PodRanges,
                    LocalPodsSetting::Ranges(_)
                    | LocalPodsSetting::Interface(_)
                    | LocalPodsSetting::InterfacePrefix(_) => NodeNeeds::Addresses,
                };
                let api = Api::open(access.clone(), Arc::clone(node_name), needs, exchanges)?;
                Ok(Self::Api(Box::new(api)))
            }
            Origin::Fed(feed) => Ok(Self::Fed(feed.clone())),
        }
    }

    /// What is taken for granted of our node before its object was seen: where there is no cluster, it need have none.
    pub(crate) fn eligibility(&self) -> Option<Eligibility> {
        match self {
            Self::Manifests(_) | Self::Fed(_) => Some(Eligibility::Eligible),
            Self::Api(_) => None,
        }
    }

    /// What can be had at once.
    pub(crate) fn first(&mut self) -> Batch {
        match self {
            Self::Manifests(manifests) => manifests.read(),
            Self::Api(_) | Self::Fed(_) => Batch::default(),
        }
    }

    /// Sends all news from here on.
    pub(crate) fn watch(self, out: Sender<Batch>) -> Result<Sending, ProxyError> {
        Ok(match self {
            Self::Manifests(manifests) => Sending::Manifests { _until_dropped: manifests.watch(out)? },
            Self::Api(api) => Sending::Api { until_dropped: api.watch(Patience::Endless, out)? },
            Self::Fed(feed) => {
                // It ends when nobody sends any more, or nobody listens.
                let work = move || while feed.next().is_some_and(|batch| out.send(batch).is_ok()) {};
                thread::Builder::new().name("feed".to_owned()).spawn(work)?;
                Sending::Fed
            }
        })
    }

    /// Takes the first full lists in, and what else is said until then; fails at the first refusal.
    pub(crate) fn read_whole(mut self, knowledge: &mut Knowledge) -> Result<(), ProxyError> {
        knowledge.take(self.first());
        let name = match self {
            Self::Manifests(_) => "the manifests".to_owned(),
            Self::Fed(feed) => {
                while knowledge.listed() == Listed::NotYet
                    && let Some(batch) = feed.next()
                {
                    knowledge.take(batch);
                }
                "what is fed".to_owned()
            }
            Self::Api(api) => {
                let name = api.server().to_owned();
                let (sender, batches) = mpsc::channel();
                let _following = api.watch(Patience::None, sender)?;
                for batch in batches {
                    knowledge.take(batch);
                    if knowledge.listed() == Listed::Yes {
                        break;
                    }
                }
                name
            }
        };
        match knowledge.listed() {
            Listed::Yes => Ok(()),
            Listed::NotYet => Err(ProxyError::NotListed(name)),
        }
    }
}
