//! Nodes of a cluster that exists only on a board: each answers who is in it, and takes appends if
//! the board says that it may. An append's answer names the node that took it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use daybook_wire::proto::gossip::gossip_server::{Gossip, GossipServer};
use daybook_wire::proto::gossip::member_info::VNodeState;
use daybook_wire::proto::gossip::{ClusterInfo, EndPoint, MemberInfo};
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::streams::append_resp::{self, Success, success};
use daybook_wire::proto::streams::streams_server::{Streams, StreamsServer};
use daybook_wire::proto::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp,
};
use futures_util::Stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

pub use daybook_wire::proto::gossip::member_info::VNodeState as State;

/// What all nodes know of each other.
#[derive(Debug, Default)]
pub struct Board {
    seats: Mutex<Vec<(SocketAddr, VNodeState, bool)>>,
    /// Answers of gossip that were given.
    gossips: AtomicU64,
    /// Appends that came to a node, whether or not it took them.
    appends: AtomicU64,
    /// Whether gossip is not answered at all.
    silent: AtomicBool,
}

impl Board {
    /// Node `number` is in `state` from now on.
    pub fn set(&self, number: usize, state: VNodeState) {
        self.seats.lock()[number].1 = state;
    }

    /// The others have noticed that node `number` is dead.
    pub fn bury(&self, number: usize) {
        self.seats.lock()[number].2 = false;
    }

    /// Node `number` believes that it is reached at `address`.
    pub fn mislead(&self, number: usize, address: SocketAddr) {
        self.seats.lock()[number].0 = address;
    }

    /// How often somebody asked for the cluster.
    pub fn gossips(&self) -> u64 {
        self.gossips.load(Ordering::SeqCst)
    }

    /// How many appends came to a node.
    pub fn appends(&self) -> u64 {
        self.appends.load(Ordering::SeqCst)
    }

    /// Gossip is not answered any more.
    pub fn silence(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    fn leader(&self) -> Option<SocketAddr> {
        let seats = self.seats.lock();
        seats.iter().find(|seat| seat.1 == VNodeState::Leader && seat.2).map(|seat| seat.0)
    }

    fn is_leader(&self, number: usize) -> bool {
        self.seats.lock()[number].1 == VNodeState::Leader
    }
}

/// A node, in a runtime of its own so that it can die as a process does.
#[derive(Debug)]
pub struct Node {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

/// Nodes in these states, and the board on which they stand.
pub async fn cluster(states: &[VNodeState]) -> (Arc<Board>, Vec<Node>) {
    let board = Arc::new(Board::default());
    let mut nodes = Vec::new();
    for state in states {
        nodes.push(Node::start(&board, *state, None).await);
    }
    (board, nodes)
}

/// The connection string of all `nodes`.
pub fn string(nodes: &[Node], options: &str) -> String {
    let hosts: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
    format!("esdb+discover://{}?tls=false&{options}", hosts.join(","))
}

impl Node {
    /// A node that stands on `board`; behind TLS if it is given.
    pub async fn start(board: &Arc<Board>, state: VNodeState, tls: Option<TlsAcceptor>) -> Node {
        let number = board.seats.lock().len();
        Node::start_at("127.0.0.1:0".parse().expect("an address"), tls, |address| {
            board.seats.lock().push((address, state, true));
            Answers { number, board: Arc::clone(board) }
        })
        .await
    }

    /// Node `number` of `board` once more, where it was before.
    pub async fn restart(self, board: &Arc<Board>, number: usize) -> Node {
        let address = self.address;
        self.kill().await;
        let answers = Answers { number, board: Arc::clone(board) };
        Node::start_at(address, None, |_| answers).await
    }

    async fn start_at(
        listen: SocketAddr,
        tls: Option<TlsAcceptor>,
        answers: impl FnOnce(SocketAddr) -> Answers,
    ) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listening = runtime.spawn(TcpListener::bind(listen));
        let listener = listening.await.expect("no panic").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::new(answers(address));
        let routes = Routes::new(GossipServer::from_arc(Arc::clone(&answers)))
            .add_service(StreamsServer::from_arc(answers))
            .prepare();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (routes, tls) = (TowerToHyperService::new(routes.clone()), tls.clone());
                // A connection that breaks is the test's doing.
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new()).http2_only();
                    match tls {
                        None => _ = server.serve_connection(TokioIo::new(tcp), routes).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                _ = server.serve_connection(TokioIo::new(stream), routes).await;
                            }
                        }
                    }
                });
            }
        });
        Node { address, runtime: Some(runtime) }
    }

    /// Ends it; its connections are broken when this returns.
    pub async fn kill(mut self) {
        let runtime = self.runtime.take().expect("not yet killed");
        let end = move || runtime.shutdown_timeout(super::PATIENCE);
        tokio::task::spawn_blocking(end).await.expect("no panic");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What one node answers.
#[derive(Debug)]
struct Answers {
    number: usize,
    board: Arc<Board>,
}

impl Answers {
    /// Refuses who wants the leader, unless this is it.
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let wanted = request.metadata().get("requires-leader").is_some_and(|value| value == "true");
        if !wanted || self.board.is_leader(self.number) {
            return Ok(());
        }
        let Some(leader) = self.board.leader() else {
            return Err(Status::unknown("No leader info available in response"));
        };
        let mut status = Status::not_found("Leader info available");
        let trailers = [
            ("exception", "not-leader".to_owned()),
            ("leader-endpoint-host", leader.ip().to_string()),
            ("leader-endpoint-port", leader.port().to_string()),
        ];
        for (key, value) in trailers {
            status.metadata_mut().insert(key, value.parse().expect("ASCII"));
        }
        Err(status)
    }
}

#[tonic::async_trait]
impl Gossip for Answers {
    async fn read(&self, _: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        if self.board.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.board.gossips.fetch_add(1, Ordering::SeqCst);
        let member = |(address, state, alive): &(SocketAddr, VNodeState, bool)| MemberInfo {
            instance_id: None,
            time_stamp: 0,
            state: (*state).into(),
            is_alive: *alive,
            http_end_point: Some(EndPoint {
                address: address.ip().to_string(),
                port: address.port().into(),
            }),
        };
        let members = self.board.seats.lock().iter().map(member).collect();
        Ok(Response::new(ClusterInfo { members }))
    }
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Streams for Answers {
    type ReadStream = Answer<ReadResp>;
    type BatchAppendStream = Answer<BatchAppendResp>;

    /// Fails at the end of the answer, not at its beginning, if it fails.
    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let end = self.check(&request).err().map(Err);
        Ok(Response::new(Box::pin(futures_util::stream::iter(end))))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        self.board.appends.fetch_add(1, Ordering::SeqCst);
        self.check(&request)?;
        let number = self.number as u64;
        let at = append_resp::Position { commit_position: number, prepare_position: number };
        let success = Success {
            current_revision_option: Some(success::CurrentRevisionOption::CurrentRevision(0)),
            position_option: Some(success::PositionOption::Position(at)),
        };
        Ok(Response::new(AppendResp { result: Some(append_resp::Result::Success(success)) }))
    }

    async fn delete(&self, _: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        Err(Status::unimplemented("nothing is deleted here"))
    }

    async fn tombstone(&self, _: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        Err(Status::unimplemented("nothing is deleted here"))
    }

    async fn batch_append(
        &self,
        _: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        Err(Status::unimplemented("one at a time"))
    }
}
