//! The routes of a server, reached with a caller of the test's choice: what the entrance finds out
//! is told here.

use bytes::{Bytes, BytesMut};
use daybook::security::{Caller, Proof};
use daybook_model::Timestamp;
use daybook_wire::frame::{PREFIX_SIZE, put_message};
use http::{HeaderMap, Request};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body as _;
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::support::node::Server;
use crate::support::soon;

/// A time that does not come.
const FAR: Timestamp = Timestamp(i64::MAX);

/// A caller who proved to be `login`, in these groups.
pub fn known(login: &str, groups: &[&str]) -> Caller {
    until(login, groups, None)
}

/// As [`known`], until then.
pub fn until(login: &str, groups: &[&str], until: Option<Timestamp>) -> Caller {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    Caller::known(login.to_owned(), groups, Proof::Password, until)
}

/// A caller who has an API token of `login`.
pub fn machine(login: &str, groups: &[&str]) -> Caller {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    Caller::by_api_token(login.to_owned(), groups, "0011223344556677".to_owned(), FAR)
}

/// An administrator.
pub fn admin() -> Caller {
    known("root", &["$admins"])
}

/// An answer whose body is still to come.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub head: HeaderMap,
    body: UnsyncBoxBody<Bytes, String>,
}

/// A server, and where its data is.
pub struct Desk {
    /// The server.
    pub server: Server,
    data: Option<TempDir>,
}

impl Desk {
    /// A server without anything in it.
    pub async fn new() -> Desk {
        let data = TempDir::new().expect("a directory");
        Desk { server: Server::start(data.path()).await, data: Some(data) }
    }

    /// A server on a disk of its own.
    pub fn of(server: Server) -> Desk {
        Desk { server, data: None }
    }

    /// The same, stopped and started again.
    pub async fn restarted(self) -> Desk {
        self.server.stop().await;
        let data = self.data.expect("a directory");
        Desk { server: Server::start(data.path()).await, data: Some(data) }
    }

    /// Sends a request over HTTP, as `caller`.
    pub async fn http(&self, caller: &Caller, route: &str, body: impl Into<Bytes>) -> Answer {
        let (method, path) = route.split_once(' ').expect("a method and a path");
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = path.parse().expect("a path");
        request.headers_mut().insert("content-type", "application/json".parse().expect("a type"));
        request.headers_mut().insert("idempotency-key", id_of(path));
        request.extensions_mut().insert(caller.clone());
        self.http_as_it_is(request).await
    }

    /// Sends a request over HTTP that says nothing of its caller but what it has already.
    pub async fn http_as_it_is(&self, request: Request<Full<Bytes>>) -> Answer {
        let routes = daybook::http::routes(self.server.context().clone());
        let Ok(response) = soon("an answer", routes.oneshot(request)).await;
        let (head, body) = response.into_parts();
        let body = body.map_err(|error| error.to_string()).boxed_unsync();
        Answer { status: head.status.as_u16(), head: head.headers, body }
    }

    /// Calls a method of gRPC with these messages, as `caller`.
    pub async fn grpc(&self, caller: &Caller, path: &str, messages: Bytes) -> Answer {
        let mut request = Request::post(path).body(Full::new(messages)).expect("a path");
        request.headers_mut().insert("content-type", "application/grpc".parse().expect("a type"));
        request.extensions_mut().insert(caller.clone());
        self.grpc_as_it_is(request).await
    }

    /// Calls a method of gRPC, and says nothing of the caller but what the request has already.
    pub async fn grpc_as_it_is(&self, request: Request<Full<Bytes>>) -> Answer {
        let routes = daybook::grpc::routes(self.server.context().clone());
        let Ok(response) = soon("an answer", routes.oneshot(request)).await;
        let (head, body) = response.into_parts();
        let body = body.map_err(|error| error.to_string()).boxed_unsync();
        Answer { status: head.status.as_u16(), head: head.headers, body }
    }

    /// What an administrator sets as the metadata of a stream.
    pub async fn set_metadata(&self, stream: &str, metadata: &str) {
        let route = format!("PUT /v1/streams/{stream}/metadata");
        let answer = self.http(&admin(), &route, metadata.to_owned()).await;
        let status = answer.status;
        assert_eq!(status, 200, "{}", answer.text().await);
    }

    /// What an administrator appends to a stream.
    pub async fn append(&self, stream: &str, event: &str) {
        let answer =
            self.http(&admin(), &format!("POST /v1/streams/{stream}"), event.to_owned()).await;
        let status = answer.status;
        assert_eq!(status, 200, "{}", answer.text().await);
    }

    /// The events of the audit log, oldest first, as HTTP shows them.
    pub async fn audit(&self) -> Vec<Value> {
        self.server.context().audit().flush().await;
        let answer = self.http(&admin(), "GET /v1/streams/$audit?limit=1000", "").await;
        if answer.status == 404 {
            return Vec::new();
        }
        answer.json().await["events"].as_array().expect("events").clone()
    }
}

/// A UUID that a text decides, for routes that want one.
fn id_of(text: &str) -> http::HeaderValue {
    let number = text.bytes().fold(1u128, |number, byte| number.rotate_left(5) ^ u128::from(byte));
    uuid::Uuid::from_u128(number).to_string().parse().expect("a header")
}

/// A message as a request's body has it.
pub fn framed(message: &impl Message) -> Bytes {
    all_framed(std::slice::from_ref(message))
}

/// Messages, one after the other.
pub fn all_framed<M: Message>(messages: &[M]) -> Bytes {
    let mut bytes = BytesMut::new();
    for message in messages {
        put_message(message, &mut bytes);
    }
    bytes.freeze()
}

impl Answer {
    /// The next of its body; none at its end. Trailers are added to the head.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = soon("a frame", self.body.frame()).await?.expect("a sound answer");
            match frame.into_data() {
                Ok(data) => return Some(data),
                Err(frame) => self.head.extend(frame.into_trailers().expect("trailers")),
            }
        }
    }

    /// The whole of its body.
    pub async fn bytes(&mut self) -> Bytes {
        let mut bytes = BytesMut::new();
        while let Some(more) = self.next().await {
            bytes.extend_from_slice(&more);
        }
        bytes.freeze()
    }

    /// The same as text.
    pub async fn text(mut self) -> String {
        String::from_utf8_lossy(&self.bytes().await).into_owned()
    }

    /// The same as JSON.
    pub async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The messages of gRPC in it.
    pub async fn messages<M: Message + Default>(&mut self) -> Vec<M> {
        let mut rest = self.bytes().await;
        let mut messages = Vec::new();
        while rest.len() >= PREFIX_SIZE {
            let size = u32::from_be_bytes(rest[1..PREFIX_SIZE].try_into().expect("four bytes"));
            let _prefix = rest.split_to(PREFIX_SIZE);
            messages.push(M::decode(rest.split_to(size as usize)).expect("a message"));
        }
        messages
    }

    /// A header or trailer.
    pub fn header(&self, name: &str) -> &str {
        self.head.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// gRPC's status, of a call that was refused or has been read to its end.
    pub async fn grpc_status(&mut self) -> u8 {
        if !self.body.is_end_stream() {
            self.bytes().await;
        }
        self.header("grpc-status").parse().expect("a status")
    }
}
