//! The guard as a tower layer, for stacks that are built of such.
//!
//! ```text
//!   ServiceBuilder::new().layer(GuardLayer::new(guard)).service(inner)
//! ```
//!
//! INVARIANT: whether `inner` is ready is part of the guarded call, so that a service that is never
//! ready is a failure of the endpoint, and not of its caller.

use std::pin::Pin;
use std::task::{Context, Poll};

use tower::{Layer, Service, ServiceExt as _};

use super::guard::{Guard, GuardError};

/// Puts a [`Guard`] before a service.
#[derive(Clone, Debug)]
pub struct GuardLayer<E> {
    guard: Guard<E>,
}

impl<E> GuardLayer<E> {
    /// A layer of `guard`.
    #[must_use]
    pub fn new(guard: Guard<E>) -> GuardLayer<E> {
        GuardLayer { guard }
    }
}

impl<S, E> Layer<S> for GuardLayer<E> {
    type Service = Guarded<S, E>;

    fn layer(&self, inner: S) -> Guarded<S, E> {
        Guarded { inner, guard: self.guard.clone() }
    }
}

/// A service behind a guard.
#[derive(Clone, Debug)]
pub struct Guarded<S, E> {
    inner: S,
    guard: Guard<E>,
}

impl<S, Request> Service<Request> for Guarded<S, S::Error>
where
    S: Service<Request> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send + Sync + 'static,
    Request: Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = GuardError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (inner, guard) = (self.inner.clone(), self.guard.clone());
        Box::pin(async move { guard.call(|| inner.clone().oneshot(request.clone())).await })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tower::{ServiceBuilder, service_fn};

    use super::super::testing::Manual;
    use super::super::{BreakerSettings, CircuitBreaker};
    use super::*;

    #[tokio::test]
    async fn a_service_that_fails_is_not_asked_any_more() {
        let settings = BreakerSettings { failures_in_a_row: Some(3), ..BreakerSettings::default() };
        let breaker = CircuitBreaker::new("risk", settings, Manual::new().wiring());
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let failing = service_fn(move |request: &'static str| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { Err::<(), _>(request) }
        });
        let layer = GuardLayer::new(Guard::new(breaker.expect("valid")));
        let service = ServiceBuilder::new().layer(layer).service(failing);
        for call in 0..10 {
            let error = service.clone().oneshot("no").await.expect_err("it fails");
            assert_eq!(error.is_rejection(), call >= 3, "{error}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
