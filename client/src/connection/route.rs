//! Takes each call to the node that is to have it, and heeds what becomes of it there.
//!
//! ```text
//!                 found                   leader is elsewhere: a channel to it
//!   searching ──────────────> known(n) ──────────────────────────────> known(n + 1)
//!      ^                        │ lost: connection, "not ready"            │
//!      └────────────────────────┴──────────────────────────────────────────┘
//!   one host: "lost" goes back to that host, and its channel connects again by itself
//! ```
//!
//! Each target has a number. What becomes of a call speaks of the target it was sent to and no
//! other: of a hundred calls that fail with one connection the first one ends the target, and the
//! rest say nothing of the next.
//!
//! INVARIANT: a search is one future which all callers share; it runs while one of them waits, and
//! goes on where it was when the next one comes. Nothing is spawned. No lock is held across an
//! await.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::Service;
use tracing::Instrument as _;

use crate::connection::channel::Dialler;
use crate::connection::discovery::{Found, NoNode, Search};
use crate::connection::{ConnectError, Deadline, Headers, trace};
use crate::error;
use crate::settings::{NodeAddress, Settings};

/// The largest number that the header of a call's deadline can carry, in milliseconds.
const DEADLINE_MAX_MS: u128 = 99_999_999;

type StdError = Box<dyn std::error::Error + Send + Sync>;

/// Where calls go; what generated clients send them over.
#[derive(Clone, Debug)]
pub struct Route {
    network: Arc<Network>,
}

#[derive(Debug)]
struct Network {
    dialler: Dialler,
    /// The one node there is, unless there is a cluster to search.
    home: Result<Target, Search>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Of the last target or search.
    number: u64,
    target: Option<Target>,
    searching: Option<(u64, Searching)>,
    /// Who was in the cluster when it was searched last.
    members: Vec<NodeAddress>,
    /// The target before, whose connection may still be good.
    previous: Option<Target>,
}

type Searching = Shared<BoxFuture<'static, Result<Found, NoNode>>>;

/// A node, and the way to it.
#[derive(Clone, Debug)]
struct Target {
    number: u64,
    node: NodeAddress,
    channel: Channel,
}

impl Route {
    pub(super) fn new(settings: &Settings, headers: Headers) -> Result<Route, ConnectError> {
        let dialler = Dialler::new(settings)?;
        let home = match &settings.cluster {
            None => {
                let node = NodeAddress { host: settings.host.clone(), port: settings.port };
                let channel = dialler.channel(&node, None)?;
                Ok(Target { number: 0, node, channel })
            }
            Some(cluster) => {
                let (cluster, preference) = (cluster.clone(), settings.node_preference);
                // What cannot be dialled at all is told now rather than with each search.
                for seed in &cluster.seeds {
                    dialler.channel(seed, None)?;
                }
                Err(Search { cluster, preference, dialler: dialler.clone(), headers })
            }
        };
        let state = State {
            number: 0,
            target: home.as_ref().ok().cloned(),
            searching: None,
            members: Vec::new(),
            previous: None,
        };
        Ok(Route { network: Arc::new(Network { dialler, home, state: Mutex::new(state) }) })
    }
}

impl Service<http::Request<Body>> for Route {
    type Response = http::Response<Watched>;
    type Error = StdError;
    type Future = BoxFuture<'static, Result<Self::Response, StdError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let network = Arc::clone(&self.network);
        let span = trace::begin(&mut request);
        let of_call = span.clone();
        let sending = async move {
            let target = network.target_for(&mut request).await;
            let target = target.inspect_err(|_| trace::failed(&of_call))?;
            trace::sent_to(&of_call, &target.node);
            let (number, mut channel) = (target.number, target.channel);
            let sent = async {
                std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
                channel.call(request).await
            };
            match sent.await {
                Ok(answer) => {
                    trace::answered(&of_call, answer.headers());
                    network.heed(number, answer.headers());
                    Ok(answer.map(|body| Watched { body, network, number }))
                }
                Err(error) => {
                    trace::failed(&of_call);
                    if !error::is_late(&error) {
                        network.lost(number, &error);
                    }
                    Err(error.into())
                }
            }
        };
        Box::pin(sending.instrument(span))
    }
}

impl Network {
    /// The node for `request`: at once if it is known, else within the call's own deadline.
    async fn target_for(&self, request: &mut http::Request<Body>) -> Result<Target, NoNode> {
        let search = match &self.home {
            Ok(home) => {
                // Without a search the target never goes away.
                return Ok(self.state.lock().target.clone().unwrap_or_else(|| home.clone()));
            }
            Err(search) => search,
        };
        let (number, searching) = {
            let mut state = self.state.lock();
            if let Some(target) = &state.target {
                return Ok(target.clone());
            }
            state.search(search)
        };
        let Some(Deadline(deadline)) = request.extensions().get().copied() else {
            return self.settle(number, searching.await);
        };
        let started = Instant::now();
        let Ok(found) = tokio::time::timeout(deadline, searching).await else {
            let reason = format!("none was found within the call's deadline of {deadline:?}");
            return Err(NoNode { reason });
        };
        let left = deadline.saturating_sub(started.elapsed()).as_millis();
        let left = format!("{}m", left.clamp(1, DEADLINE_MAX_MS));
        if let Ok(left) = HeaderValue::try_from(left) {
            request.headers_mut().insert("grpc-timeout", left);
        }
        self.settle(number, found)
    }

    /// Notes the end of search `number`; the first of those who waited for it does.
    fn settle(&self, number: u64, found: Result<Found, NoNode>) -> Result<Target, NoNode> {
        let mut state = self.state.lock();
        let first = state.searching.as_ref().is_some_and(|(running, _)| *running == number);
        if first {
            state.searching = None;
        }
        let Found { node, channel, members } = found?;
        let target = state.target_at(number, node, channel);
        if first {
            state.members = members;
            state.target = Some(target.clone());
        }
        Ok(target)
    }

    /// The connection to target `number` is of no use any more.
    fn lost(&self, number: u64, why: &dyn std::fmt::Display) {
        let mut state = self.state.lock();
        let Some(target) = state.target.take_if(|target| target.number == number) else { return };
        if let Ok(home) = &self.home {
            state.target = Some(home.clone());
            return;
        }
        tracing::info!(node = %target.node, %why, "the node is lost; the next call finds one");
        state.previous = Some(target);
    }

    /// Target `number` says that `leader` must be asked.
    fn follow(&self, number: u64, leader: NodeAddress) {
        let mut state = self.state.lock();
        let Some(target) = &state.target else { return };
        if target.number != number {
            return;
        }
        let channel = if target.node == leader {
            // It contradicts itself, so others must be asked.
            None
        } else {
            self.dialler.channel(&leader, None).ok()
        };
        let Some(channel) = channel else {
            drop(state);
            return self.lost(number, &"it names no leader that could be asked");
        };
        tracing::info!(node = %target.node, %leader, "the node is not the leader; following it");
        state.number += 1;
        let next = state.number;
        let next = state.target_at(next, leader, channel);
        state.previous = state.target.replace(next);
    }

    /// Looks at how a call ended, if these headers say that it did.
    fn heed(&self, number: u64, headers: &HeaderMap) {
        if !headers.contains_key("grpc-status") {
            return;
        }
        let Some(status) = Status::from_header_map(headers) else { return };
        if let Some((host, port)) = error::leader_of(status.metadata()) {
            if let Some(leader) = NodeAddress::told(&host, port.into()) {
                self.follow(number, leader);
            }
        } else if error::is_leaderless(&status) || is_going(&status) {
            self.lost(number, &status.message());
        }
    }
}

/// Whether a node says that another one should be used. One that is merely busy does not: its
/// clients must not look for it all at once.
fn is_going(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message() != error::TOO_BUSY
}

impl State {
    /// The search under way, or a new one.
    fn search(&mut self, search: &Search) -> (u64, Searching) {
        if let Some(searching) = &self.searching {
            return searching.clone();
        }
        self.number += 1;
        let searching = search.clone().run(self.members.clone()).boxed().shared();
        self.searching.insert((self.number, searching)).clone()
    }

    /// A target at `node`, over the connection that there is already if it was the last one.
    fn target_at(&self, number: u64, node: NodeAddress, channel: Channel) -> Target {
        match &self.previous {
            Some(previous) if previous.node == node => {
                Target { number, node, channel: previous.channel.clone() }
            }
            _ => Target { number, node, channel },
        }
    }
}

/// The answer to a call, with an eye on its end.
#[derive(Debug)]
pub struct Watched {
    body: Body,
    network: Arc<Network>,
    number: u64,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.network.heed(self.number, trailers);
                }
            }
            Some(Err(status)) => self.network.lost(self.number, &status.message()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
