//! The handshake that makes a connection a secure one.
//!
//! INVARIANT: what a stranger's handshake may cost is bounded: it has a slot of the connections, so
//! much time, and nothing is waited for once it is clear that the client does not speak TLS.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio_rustls::rustls::Error;
use tokio_rustls::server::TlsStream;

use super::acks::Prompt;
use super::{Life, Phase};
use crate::security::tls::{ClientCertificate, Tls};
use crate::telemetry::security::HandshakeFailure;

/// Time a client has for its handshake: two turns over the slowest network, and our own work while
/// the processors are busy.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a connection that speaks TLS: the record type "handshake".
const HANDSHAKE_RECORD: u8 = 22;
/// What a client that speaks HTTP in the clear is told.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    content-length: 43\r\nconnection: close\r\n\r\nthis port speaks TLS: use https:// instead\n";

/// Shakes hands with a client, in that time. None if that failed, or the node stops meanwhile: it is counted.
pub(super) async fn shake_hands(
    tls: &Tls,
    stream: Prompt,
    within: Duration,
    life: &Life,
) -> Option<(TlsStream<Prompt>, Option<Arc<ClientCertificate>>)> {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(within, greet(tls, stream)) => shaken,
        () = life.reached(Phase::Draining) => return None,
    };
    let failure = match shaken {
        Ok(Ok(secured)) => return Some(secured),
        Ok(Err(failure)) => failure,
        Err(_elapsed) => HandshakeFailure::TimedOut,
    };
    life.metrics().security.handshake_failed(failure);
    None
}

async fn greet(
    tls: &Tls,
    mut stream: Prompt,
) -> Result<(TlsStream<Prompt>, Option<Arc<ClientCertificate>>), HandshakeFailure> {
    let mut first = [0];
    match stream.stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) => {
            // Whether it gets there or not: it is for people.
            if first[0].is_ascii_uppercase() {
                let _ = stream.write_all(SPEAK_TLS).await;
                let _ = stream.shutdown().await;
            }
            return Err(HandshakeFailure::NotTls);
        }
        // It was only looked whether the port is open.
        _ => return Err(HandshakeFailure::NotTls),
    }
    let secured = tls.acceptor().accept(stream).await.map_err(|error| {
        let failure = of(&error);
        tracing::debug!(%error, "a handshake failed");
        failure
    })?;
    let shown = secured.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = match shown.map(ClientCertificate::read) {
        None => None,
        Some(Ok(certificate)) => Some(Arc::new(certificate)),
        Some(Err(error)) => {
            tracing::debug!(error, "a client certificate cannot be used");
            return Err(HandshakeFailure::ClientCertificate);
        }
    };
    Ok((secured, certificate))
}

fn of(error: &std::io::Error) -> HandshakeFailure {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
            HandshakeFailure::ClientCertificate
        }
        Some(Error::InvalidMessage(_)) => HandshakeFailure::NotTls,
        _ => HandshakeFailure::Other,
    }
}
