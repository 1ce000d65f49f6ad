//! A server that offers KurrentDB's services and none of Daybook's own: it hands the streams' calls
//! on to a real one, and remembers their headers and how often it was asked for what it has not.

use std::convert::Infallible;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use daybook_wire::proto::event_store::client::streams::streams_server::StreamsServer;
use daybook_wire::proto::snapshots::snapshots_server::SnapshotsServer;
use daybook_wire::proto::transactions::transactions_server::TransactionsServer;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

/// What it has seen.
#[derive(Clone, Default)]
pub struct Seen {
    /// The headers of each call that it handed on.
    pub headers: Arc<Mutex<Vec<HeaderMap>>>,
    /// How often it was asked for snapshots.
    pub snapshots: Arc<AtomicUsize>,
    /// How often it was asked for transactions.
    pub transactions: Arc<AtomicUsize>,
}

/// Starts one before the server at `real`. It lives as long as the runtime.
pub async fn start(real: SocketAddr) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let seen = Seen::default();
    let endpoint = Endpoint::from_shared(format!("http://{real}")).expect("an address");
    let streams = Forward { to: endpoint.connect_lazy(), headers: seen.headers.clone() };
    let router = Server::builder()
        .add_service(streams)
        .add_service(Absent::<SnapshotsServer<()>>::new(&seen.snapshots))
        .add_service(Absent::<TransactionsServer<()>>::new(&seen.transactions));
    tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    (address, seen)
}

#[derive(Clone)]
struct Forward {
    to: Channel,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
}

impl NamedService for Forward {
    const NAME: &'static str = <StreamsServer<()> as NamedService>::NAME;
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.headers.lock().expect("not poisoned").push(request.headers().clone());
        let mut to = self.to.clone();
        Box::pin(async move {
            let answer = match poll_fn(|cx| to.poll_ready(cx)).await {
                Ok(()) => to.call(request).await,
                Err(error) => Err(error),
            };
            Ok(answer.unwrap_or_else(|error| Status::unavailable(error.to_string()).into_http()))
        })
    }
}

/// A service that is not there, and counts who asks for it.
struct Absent<S> {
    asked: Arc<AtomicUsize>,
    service: PhantomData<fn(S)>,
}

impl<S> Absent<S> {
    fn new(asked: &Arc<AtomicUsize>) -> Absent<S> {
        Absent { asked: asked.clone(), service: PhantomData }
    }
}

impl<S> Clone for Absent<S> {
    fn clone(&self) -> Absent<S> {
        Absent::new(&self.asked)
    }
}

impl<S: NamedService> NamedService for Absent<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Absent<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<std::future::Ready<Result<Response<Body>, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let status = Status::unimplemented("Service is unimplemented.");
        Box::pin(std::future::ready(Ok(status.into_http())))
    }
}
