//! A Kubernetes API server as a source of facts.
//!
//! ```text
//! connect ──▶ stream: list, watch, list again ──▶ known: what is news ──▶ Batch
//!                                  └──▶ gate: the first lists are in
//! ```
//!
//! Each kind of object is followed by a task of its own, all of them on one thread. However long the server is
//! away, what was known stays known.

mod connect;
mod exchanges;
mod gate;
mod known;
mod notices;
mod stream;
mod transport;
mod watched;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

pub use connect::ConnectError;
pub use exchanges::{Exchange, Exchanges};
pub use notices::{Importance, Notice, Notices, Subject};

use crate::{Batch, Event};
use connect::Connection;
use gate::Gate;
use notices::Given;
use stream::{Follower, Outlet};
use watched::{Kind, NodeSelector};

/// Where the API server is, and who we are to it. With neither file nor address the pod's own service account
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// The server's address, which counts before the file's.
    pub master: Option<String>,
}

/// What must be known of our own Node before the first lists count as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeNeeds {
    /// An address, but not for ever: after half a minute the interfaces' must do.
    Addresses,
    /// Its pod ranges, without which local pods cannot be told from the rest.
    PodRanges,
}

/// What to do when the server refuses, or cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Try again for ever.
    Endless,
    /// Report it, and end.
    None,
}

/// An API server to be watched.
#[derive(Debug)]
pub struct Api {
    connection: Connection,
    node_name: Arc<str>,
    needs: NodeNeeds,
}

/// An API server that is being watched, until this is dropped.
#[derive(Debug)]
pub struct Following {
    stop: Option<oneshot::Sender<()>>,
    notices: Notices,
    thread: Option<JoinHandle<()>>,
}

/// Why an API server cannot serve as a source.
#[derive(Debug, Error)]
pub enum ApiError {
    /// What tells where it is cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The thread that watches could not be started.
    #[error("cannot watch the API server")]
    Thread(#[source] std::io::Error),
}

/// How long a Node without an address is waited for, as upstream does.
const NODE_PATIENCE: Duration = Duration::from_secs(30);

impl Api {
    /// Reads what tells where the server is. It is not asked yet; once it is, that is counted.
    pub fn open(
        access: Access,
        node_name: Arc<str>,
        needs: NodeNeeds,
        exchanges: Exchanges,
    ) -> Result<Self, ApiError> {
        Ok(Self { connection: Connection::open(access, exchanges)?, node_name, needs })
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        self.connection.server()
    }

    /// Sends what there is and what changes from then on, until the answer is dropped, nobody listens any more, or
    /// patience ends.
    pub fn watch(self, patience: Patience, out: mpsc::Sender<Batch>) -> Result<Following, ApiError> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(ApiError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let (notices, given) = Notices::channel();
        let work = move || {
            let follow = self.follow(patience, out, given);
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => {}
                    () = follow => {}
                }
            });
            // A request may hang in a resolver or an exec plugin.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("api".to_owned()).spawn(work);
        Ok(Following { stop: Some(stop), notices, thread: Some(thread.map_err(ApiError::Thread)?) })
    }

    async fn follow(self, patience: Patience, out: mpsc::Sender<Batch>, given: Given) {
        let outlet = Outlet { gate: Rc::new(RefCell::new(Gate::new(self.needs))), out };
        let connection = Rc::new(self.connection);
        let node = NodeSelector(self.node_name);
        let mut tasks = tokio::task::JoinSet::new();
        for kind in Kind::ALL {
            let follower = Follower::new(kind, &node, Rc::clone(&connection), outlet.clone(), patience);
            tasks.spawn_local(follower.run());
        }
        tasks.spawn_local(wait_for_node(outlet));
        tasks.spawn_local(notices::post(connection, given));
        tasks.join_next().await;
    }
}

/// Ends the wait for a Node that has no address, or is not there.
async fn wait_for_node(outlet: Outlet) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let opened = outlet.gate.borrow_mut().second_passed(NODE_PATIENCE);
        if opened && outlet.send(Batch { events: vec![Event::Listed], ..Batch::default() }).is_err() {
            return;
        }
    }
}

impl Following {
    /// The way for notices to the cluster.
    pub fn notices(&self) -> Notices {
        self.notices.clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}
