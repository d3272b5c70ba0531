//! One listener: accept loop, caps, timeouts, TLS, drain. Used twice: data plane and control plane.

mod activity;
mod connection;
#[doc(hidden)]
pub mod h1;
pub(crate) mod h2;
mod listener_control;
mod metrics;
mod permits;
mod proxy_header;
mod tls;
mod tracking;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{self, Instant},
};

use self::{connection::Accepted, connection::Connections, metrics::End};
use crate::config::{ListenerSettings, TrustedProxies};

pub(crate) use crate::server::{
    h1::framing::Refused,
    listener_control::ListenerControl,
    metrics::ConnectionMetrics,
    tls::{LOOK as TLS_LOOK, Tls},
    tracking::IncomingBody,
};

/// Pause after an accept that failed: without file descriptors the next one fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pause between two log lines about that.
const ACCEPT_LOG_PAUSE: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The address that it comes from, or that a proxy has named at its beginning.
    pub(crate) addr: SocketAddr,
    /// Whether what it says about others is believed.
    pub(crate) trusted: bool,
    /// Whether nobody on the way can read along.
    pub(crate) tls: bool,
}

/// What a listener needs besides its address.
pub(crate) struct Listening {
    /// Its name in metrics.
    pub(crate) plane: &'static str,
    pub(crate) config: ListenerSettings,
    /// Connections at once.
    pub(crate) connections: usize,
    /// Whether trusted proxies begin their connections with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    pub(crate) trusted: TrustedProxies,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) metrics: ConnectionMetrics,
    /// Set when clients should go elsewhere.
    pub(crate) leaving: Arc<AtomicBool>,
}

/// A bound listener.
pub(crate) struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    listening: Listening,
}

impl Server {
    pub(crate) async fn bind(addr: SocketAddr, listening: Listening) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(addr).await.with_context(|| format!("listening on {addr}"))?;
        Self::new(listener, listening)
    }

    /// Takes over a socket that somebody else has opened and bound.
    pub(crate) fn inherit(
        socket: std::net::TcpListener,
        listening: Listening,
    ) -> anyhow::Result<Self> {
        socket.set_nonblocking(true).context("taking over a socket")?;
        Self::new(TcpListener::from_std(socket).context("taking over a socket")?, listening)
    }

    fn new(listener: TcpListener, listening: Listening) -> anyhow::Result<Self> {
        let addr = listener.local_addr().context("asking for the listener's address")?;
        Ok(Self { listener, addr, listening })
    }

    /// The address it was bound to, with the port that was really given.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it can be asked, as the beginning of a URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.listening.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Serves until it is told to stop; then lets requests in flight end, for a bounded time.
    ///
    /// `service` makes what answers the requests of one connection.
    pub(crate) async fn run<M, S, B>(self, service: M, mut orders: watch::Receiver<ListenerControl>)
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<IncomingBody>, Response = Response<B>> + Send + Unpin + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let drain = self.listening.config.drain;
        let connections = Arc::new(Connections::new(self.listening, service, orders.clone()));
        let mut failing = Failing::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = ListenerControl::stopped(&mut orders) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    connections.serve(Accepted { stream, peer, at: Instant::now() });
                }
                Err(error) => {
                    connections.not_accepted();
                    failing.log(&error);
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // The system has accepted these for us already.
        while let Some(Ok((stream, peer))) = self.listener.accept().now_or_never() {
            connections.serve(Accepted { stream, peer, at: Instant::now() });
        }
        drop(self.listener);
        if time::timeout(drain, connections.all_ended()).await.is_err() {
            let cut = connections.cut();
            tracing::warn!(?drain, cut, "connections were cut at the end of the drain");
        }
    }
}

/// Accepting fails many times a second if it fails at all.
#[derive(Default)]
struct Failing {
    logged: Option<Instant>,
}

impl Failing {
    fn log(&mut self, error: &std::io::Error) {
        if self.logged.is_none_or(|logged| logged.elapsed() >= ACCEPT_LOG_PAUSE) {
            self.logged = Some(Instant::now());
            tracing::warn!(%error, "connections cannot be accepted");
        }
    }
}
