//! One listener: accept loop, caps, timeouts, drain. Used twice: data plane and control plane.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};
use tower::Service;

use crate::config::ServerSection;

/// Pause after an accept that failed: without file descriptors the next one fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams that one HTTP/2 connection may have open.
const STREAMS: u32 = 100;
/// Flow-control windows: a client may be this far ahead of whoever reads its body.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of header fields of one HTTP/2 request.
const HEADER_LIST: u32 = 16 << 10;
/// Bytes of a response that may wait for the client on each stream.
const SEND_BUFFER: usize = 64 << 10;
/// An HTTP/2 client that does not answer a ping for this long is gone.
const PING: Duration = Duration::from_secs(20);

/// The client's end of the connection, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A bound listener.
pub(crate) struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    config: ServerSection,
}

impl Server {
    pub(crate) async fn bind(addr: SocketAddr, config: &ServerSection) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(addr).await.with_context(|| format!("listening on {addr}"))?;
        let addr = listener.local_addr().context("asking for the listener's address")?;
        Ok(Self { listener, addr, config: config.clone() })
    }

    /// The address it was bound to, with the port that was really given.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` says so; then lets requests in flight end, for a bounded time.
    pub(crate) async fn run<S, B>(self, service: S, mut stop: watch::Receiver<bool>)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let protocol = protocol(&self.config);
        let connections = Arc::new(Connections::new(&self.config));
        let graceful = GracefulShutdown::new();
        let first_byte = Duration::from_millis(self.config.header_timeout_ms);
        loop {
            let (stream, peer) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection");
                        time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = stopped(&mut stop) => break,
            };
            let Some(place) = Connections::join(&connections, peer.ip()) else { continue };
            let service = TowerToHyperService::new(WithPeer { inner: service.clone(), peer });
            let protocol = protocol.clone();
            let watcher = graceful.watcher();
            // Ends with the connection; the drain below waits for its watcher.
            tokio::spawn(async move {
                let _place = place;
                if !speaks(&stream, first_byte).await {
                    return;
                }
                let connection = protocol.serve_connection(TokioIo::new(stream), service);
                // What a client does to its connection is its own business.
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%peer, %error, "a connection ended");
                }
            });
        }
        drop(self.listener);
        let drain = Duration::from_millis(self.config.drain_ms);
        if time::timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(?drain, "connections were cut at the end of the drain");
        }
    }
}

/// Returns when the application stops; its sender lives until then.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn protocol(config: &ServerSection) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.idle_timeout_ms))
        .max_buf_size(config.header_bytes)
        .max_headers(config.headers);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    protocol
}

/// Waits for a client's first byte: a silent connection is not kept.
async fn speaks(stream: &TcpStream, patience: Duration) -> bool {
    // Answers are written whole; waiting for more would only delay them.
    let set = stream.set_nodelay(true);
    matches!(time::timeout(patience, stream.readable()).await, Ok(Ok(()))) && set.is_ok()
}

/// Counts connections, in all and by address.
struct Connections {
    open: Mutex<Open>,
    total_max: usize,
    address_max: usize,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Connections {
    fn new(config: &ServerSection) -> Self {
        Self {
            open: Mutex::default(),
            total_max: config.connections,
            address_max: config.connections_per_address_max(),
        }
    }

    /// A place for one more connection, or none: then the connection is closed at once.
    fn join(connections: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&address).copied().unwrap_or_default();
        if open.total >= connections.total_max || here >= connections.address_max {
            return None;
        }
        open.total += 1;
        open.by_address.insert(address, here + 1);
        Some(Place { connections: Arc::clone(connections), address })
    }
}

/// One connection's place; given up when dropped.
struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Tells the service who calls.
#[derive(Clone)]
struct WithPeer<S> {
    inner: S,
    peer: SocketAddr,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(Peer(self.peer));
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let config =
            ServerSection { connections: 3, connections_per_address: 2, ..Default::default() };
        let connections = Arc::new(Connections::new(&config));
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let join = |address| Connections::join(&connections, address);
        let first = join(a).unwrap();
        let _second = join(a).unwrap();
        assert!(join(a).is_none(), "the address is full");
        let _third = join(b).unwrap();
        assert!(join(b).is_none(), "the listener is full");
        drop(first);
        assert!(join(b).is_some());
    }
}
