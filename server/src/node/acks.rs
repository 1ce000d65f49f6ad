//! Clients that wait for an acknowledgement by the kernel before they send the rest of a request.
//!
//! ```text
//!   client   head of the request ────>  read                       with Nagle's algorithm: the rest
//!                                       dry: nothing more to read  waits until the head is acknowledged
//!   kernel                              … 40 ms: a delayed ACK     nothing is written that could carry it
//!   client   the rest ───────────────>  read
//! ```
//!
//! Some clients, KurrentDB's own for Rust among them, do not switch that algorithm off, and then make
//! 20 calls a second. A connection on which this was seen once is acknowledged at once from then on;
//! on the others that would be a system call and a packet a read for nothing.
//!
//! INVARIANT: decides from times alone; costs two looks at the clock a read that waits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use daybook_model::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Linux delays an acknowledgement by at least so long, less a tick of its clock.
const DELAY_MIN: Duration = Duration::from_millis(35);
/// And by no more than this, as long as both sides keep up.
const DELAY_MAX: Duration = Duration::from_millis(60);

/// Whether a connection's client waits for acknowledgements.
pub struct Acks {
    clock: Arc<dyn Clock>,
    /// Whether bytes were read since the last ones were written.
    unanswered: bool,
    /// Since when there is nothing to read, and nothing was written either.
    dry: Option<Duration>,
    at_once: bool,
}

impl Acks {
    /// Of a new connection.
    pub fn new(clock: Arc<dyn Clock>) -> Acks {
        Acks { clock, unanswered: false, dry: None, at_once: false }
    }

    /// There is nothing to read.
    pub fn dry(&mut self) {
        if self.unanswered && !self.at_once && self.dry.is_none() {
            self.dry = Some(self.clock.monotonic());
        }
    }

    /// Something was read. Answers whether to acknowledge it at once.
    pub fn read(&mut self) -> bool {
        if let Some(since) = self.dry.take() {
            let waited = self.clock.monotonic().saturating_sub(since);
            self.at_once = (DELAY_MIN..DELAY_MAX).contains(&waited);
        }
        self.unanswered = true;
        self.at_once
    }

    /// Something is written, which carries the acknowledgement.
    pub fn written(&mut self) {
        self.unanswered = false;
        self.dry = None;
    }
}

/// Has the kernel acknowledge what `stream` has received, now. It forgets that it was asked, so it
/// is asked for each read; where it cannot be, nothing is lost but time.
#[cfg(target_os = "linux")]
pub fn acknowledge(stream: &TcpStream) {
    let _ = stream.set_quickack(true);
}

/// Nothing can be asked of this kernel.
#[cfg(not(target_os = "linux"))]
pub fn acknowledge(_stream: &TcpStream) {}

/// A socket that acknowledges at once what a client waits for; below TLS, if there is any.
pub struct Prompt {
    /// The socket.
    pub stream: TcpStream,
    /// Whether its client waits.
    pub acks: Acks,
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(task, buffer);
        if read.is_pending() {
            self.acks.dry();
        }
        ready!(read)?;
        if self.acks.read() {
            acknowledge(&self.stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.acks.written();
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.acks.written();
        Pin::new(&mut self.stream).poll_write_vectored(task, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use daybook_model::Timestamp;

    use super::*;

    #[derive(Debug, Default)]
    struct Stopped(AtomicU64);

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_client_that_waits_for_an_acknowledgement_is_found_out() {
        // What happens between two reads, in milliseconds; whether something is written meanwhile.
        let rows = [(40, false, true), (44, false, true), (40, true, false), (10, false, false)];
        for (waited, answered, at_once) in rows {
            let clock = Arc::new(Stopped::default());
            let mut acks = Acks::new(clock.clone());
            assert!(!acks.read(), "the first bytes of all");
            acks.dry();
            if answered {
                acks.written();
            }
            clock.0.fetch_add(waited, Ordering::Relaxed);
            assert_eq!(acks.read(), at_once, "{waited} ms, answered: {answered}");
            // What was found out holds, whatever comes.
            acks.dry();
            clock.0.fetch_add(1, Ordering::Relaxed);
            assert_eq!(acks.read(), at_once);
        }
    }

    #[test]
    fn who_asks_seldom_is_not_taken_for_one() {
        let clock = Arc::new(Stopped::default());
        let mut acks = Acks::new(clock.clone());
        for _ in 0..10 {
            assert!(!acks.read());
            acks.written();
            acks.dry();
            clock.0.fetch_add(40, Ordering::Relaxed);
        }
    }
}
