//! The health protocol of gRPC (`grpc.health.v1`), in clear text, as the kubelet speaks it.

use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::runtime::Builder;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// What is answered.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The status of a service that serves.
const SERVING: i32 = 1;

/// Asks a server whether a service serves, and says what is wrong. The runtime lives for this one question.
pub(super) fn serves(at: SocketAddr, service: &str, limit: Duration) -> Result<(), String> {
    let failed = |what: String| format!("grpc://{at}/{service}: {what}");
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let asked = runtime.block_on(async { timeout(limit, asked(at, service)).await });
    match asked {
        Ok(Ok(Answer { status: SERVING })) => Ok(()),
        Ok(Ok(Answer { status })) => Err(failed(format!("it does not serve: status {status}"))),
        Ok(Err(status)) => Err(failed(format!("{:?}: {}", status.code(), status.message()))),
        Err(_) => Err(failed(format!("no answer within {limit:?}"))),
    }
}

async fn asked(at: SocketAddr, service: &str) -> Result<Answer, Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(crate::oci::told(&error));
    let endpoint = Endpoint::from_shared(format!("http://{at}")).map_err(unavailable)?;
    let endpoint = endpoint.user_agent("kube-probe/1.36").map_err(unavailable)?;
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.map_err(unavailable)?);
    client.ready().await.map_err(unavailable)?;
    let question = Request::new(Question { service: service.to_owned() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = client.unary(question, path, ProstCodec::<Question, Answer>::default()).await?;
    Ok(answer.into_inner())
}
