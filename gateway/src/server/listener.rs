//! A listener: accepts connections until it is told to stop, then drains them.

mod accept_failures;
mod accept_loop;
pub(crate) mod local;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{self, Instant},
};

use crate::server::{
    connection::{Accepted, Connections},
    listener::{accept_loop::accept_until_stopped, local::LocalSocket},
    listener_config::ListenerConfig,
    listener_control::ListenerControl,
    peer::Peer,
    tracking::IncomingBody,
};

/// A bound listener.
pub(crate) struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    local: Option<LocalSocket>,
    config: ListenerConfig,
}

impl Server {
    pub(crate) async fn bind(addr: SocketAddr, config: ListenerConfig) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(addr).await.with_context(|| format!("listening on {addr}"))?;
        Self::new(listener, config)
    }

    /// Takes over a socket that the service manager has opened and bound.
    pub(crate) fn inherit(
        socket: std::net::TcpListener,
        config: ListenerConfig,
    ) -> anyhow::Result<Self> {
        socket.set_nonblocking(true).context("taking over a socket")?;
        Self::new(TcpListener::from_std(socket).context("taking over a socket")?, config)
    }

    fn new(listener: TcpListener, config: ListenerConfig) -> anyhow::Result<Self> {
        let addr = listener.local_addr().context("asking for the listener's address")?;
        Ok(Self { listener, addr, local: None, config })
    }

    /// Serves the connections of a Unix socket, too.
    pub(crate) fn with_local(self, local: Option<LocalSocket>) -> Self {
        Self { local, ..self }
    }

    /// The bound address, with the port that the system chose if none was asked for.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The beginning of the URLs under which clients reach it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Serves until it is told to stop. Then the requests in flight may end, for a bounded time.
    ///
    /// `service` creates the service of each connection.
    pub(crate) async fn run<M, S, B>(self, service: M, control: watch::Receiver<ListenerControl>)
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<IncomingBody>, Response = Response<B>> + Send + Unpin + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let drain = self.config.settings.drain;
        let connections = Arc::new(Connections::new(self.config, service, control.clone()));
        let local = self
            .local
            .map(|local| tokio::spawn(local.run(Arc::clone(&connections), control.clone())));
        let take = |accepted| match accepted {
            Some((stream, peer)) => {
                connections.serve(Accepted { stream, peer, at: Instant::now() });
            }
            None => connections.accept_failed(),
        };
        accept_until_stopped(|| self.listener.accept(), control, take).await;
        // The system has already accepted these.
        while let Some(Ok(accepted)) = self.listener.accept().now_or_never() {
            take(Some(accepted));
        }
        drop(self.listener);
        if let Some(local) = local {
            // A panic in it has been logged.
            let _ = local.await;
        }
        if time::timeout(drain, connections.all_ended()).await.is_err() {
            let aborted = connections.count_aborted();
            tracing::warn!(?drain, aborted, "connections were aborted at the end of the drain");
        }
    }
}
