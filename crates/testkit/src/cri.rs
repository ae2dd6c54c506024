//! A client of CRI, the interface through which the kubelet asks a container runtime for pods: as much of it as tests
//! need.

pub mod messages;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use messages::{
    ById, ContainerConfig, ContainerStatus, ContainerStatusResponse, CreateContainerRequest, ExecSyncRequest,
    ExecSyncResponse, ListPodSandboxRequest, ListPodSandboxResponse, Made, PodSandbox, PodSandboxConfig,
    PodSandboxStatus, PodSandboxStatusResponse, RunPodSandboxRequest, StopContainerRequest, Version,
};

/// No call takes longer, whatever the machine is busy with.
const LIMIT: Duration = Duration::from_mins(2);

/// A connection to a runtime; clones share it.
#[derive(Clone, Debug)]
pub struct Cri {
    channel: Channel,
    runtime: Arc<Runtime>,
}

impl Cri {
    /// At a socket, where the runtime may not yet listen.
    pub fn at(socket: &Path) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = {
            let _inside = runtime.enter();
            let endpoint = Endpoint::from_static("http://runtime").timeout(LIMIT);
            endpoint.connect_with_connector_lazy(connector)
        };
        Ok(Self { channel, runtime: Arc::new(runtime) })
    }

    /// Name and version of the runtime.
    pub fn version(&self) -> Result<Version, Status> {
        self.ask("Version", Version::default())
    }

    /// Makes a pod's sandbox; its ID.
    pub fn run_pod(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        self.ask("RunPodSandbox", request).map(|Made { id }| id)
    }

    /// What is known of a sandbox.
    pub fn pod(&self, id: &str) -> Result<PodSandboxStatus, Status> {
        let answer: PodSandboxStatusResponse = self.ask("PodSandboxStatus", ById::verbose(id))?;
        let mut status = answer.status.ok_or_else(|| Status::not_found("no status"))?;
        status.info = answer.info;
        Ok(status)
    }

    /// All sandboxes.
    pub fn pods(&self) -> Result<Vec<PodSandbox>, Status> {
        let answer: ListPodSandboxResponse = self.ask("ListPodSandbox", ListPodSandboxRequest {})?;
        Ok(answer.items)
    }

    /// Stops a sandbox and all that is in it.
    pub fn stop_pod(&self, id: &str) -> Result<(), Status> {
        self.ask("StopPodSandbox", ById::new(id))
    }

    /// Removes a sandbox and all that is in it.
    pub fn remove_pod(&self, id: &str) -> Result<(), Status> {
        self.ask("RemovePodSandbox", ById::new(id))
    }

    /// Makes a container and starts it; its ID.
    pub fn run_container(
        &self,
        pod: &str,
        pod_config: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod_config.clone()),
        };
        let Made { id } = self.ask("CreateContainer", request)?;
        self.ask::<_, ()>("StartContainer", ById::new(&id))?;
        Ok(id)
    }

    /// What is known of a container.
    pub fn container(&self, id: &str) -> Result<ContainerStatus, Status> {
        let answer: ContainerStatusResponse = self.ask("ContainerStatus", ById::verbose(id))?;
        let mut status = answer.status.ok_or_else(|| Status::not_found("no status"))?;
        status.info = answer.info;
        Ok(status)
    }

    /// Stops a container, by force after so many seconds.
    pub fn stop_container(&self, id: &str, seconds: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: seconds };
        self.ask("StopContainer", request)
    }

    /// Runs a command in a container; what it printed, if it ended well.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String, Status> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 20,
        };
        let answer: ExecSyncResponse = self.ask("ExecSync", request)?;
        let said = String::from_utf8_lossy(&answer.stdout).into_owned();
        if answer.exit_code == 0 {
            return Ok(said);
        }
        let complaint = String::from_utf8_lossy(&answer.stderr).into_owned();
        Err(Status::aborted(format!("{command:?} ended with {}: {said}{complaint}", answer.exit_code)))
    }

    /// One call, one answer.
    fn ask<Q, A>(&self, call: &str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{call}");
        let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let answer = client.unary(Request::new(question), path, ProstCodec::<Q, A>::default()).await?;
            Ok(answer.into_inner())
        })
    }
}
