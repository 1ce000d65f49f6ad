//! A future that gets so much time and no more, over the timer seam.
//!
//! tower has a timeout, on tokio's clock alone; this one waits in a simulation, too. A future that
//! is ready at once starts no timer.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use daybook_model::Timer;

/// What `future` comes to, or nothing if that takes longer than `limit`; then it is dropped.
pub(super) async fn within<T>(
    timer: &dyn Timer,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut sleep = None;
    poll_fn(|context| {
        if let std::task::Poll::Ready(found) = future.as_mut().poll(context) {
            return std::task::Poll::Ready(Some(found));
        }
        let sleep = sleep.get_or_insert_with(|| timer.sleep(limit));
        sleep.as_mut().poll(context).map(|()| None)
    })
    .await
}
