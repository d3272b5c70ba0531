//! One listener: accept loop, caps, timeouts, drain. Used twice: data plane and control plane.

mod connection;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};

use self::connection::{Activity, Answering, Noted, Spoken, spoken};
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
    ///
    /// `service` makes what answers the requests of one connection.
    pub(crate) async fn run<M, S, B>(self, service: M, mut stop: watch::Receiver<bool>)
    where
        M: Fn(SocketAddr) -> S,
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let protocols = Arc::new(Protocols::new(&self.config));
        let connections = Arc::new(Connections::new(&self.config));
        let graceful = GracefulShutdown::new();
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
            let served = Served {
                service: service(peer),
                protocols: Arc::clone(&protocols),
                peer,
                watcher: graceful.watcher(),
            };
            let stop = stop.clone();
            // Ends with the connection; the drain below waits for its watcher.
            tokio::spawn(async move {
                let _place = place;
                served.serve(stream, stop).await;
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

/// How connections are served: the same for all of a listener's.
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    /// Time for the head of a request, and for the first byte of a connection.
    head: Duration,
    /// Time without a request.
    idle: Duration,
}

impl Protocols {
    fn new(config: &ServerSection) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // Each connection has its own timer, which also sees what this one does not.
            .header_read_timeout(None)
            // Most answers are short: copying them into one buffer costs less than two.
            .writev(false)
            .max_buf_size(config.header_bytes)
            .max_headers(config.headers);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        Self {
            http1,
            http2,
            head: Duration::from_millis(config.header_timeout_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
        }
    }
}

/// One connection before its first byte.
struct Served<S> {
    service: S,
    protocols: Arc<Protocols>,
    peer: SocketAddr,
    watcher: Watcher,
}

impl<S, B> Served<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn serve(self, stream: TcpStream, mut stop: watch::Receiver<bool>) {
        let Self { service, protocols, peer, watcher } = self;
        // Answers are written whole; waiting for more would only delay them.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let spoken = tokio::select! {
            biased;
            spoken = spoken(&stream, protocols.head) => spoken,
            // It has not asked for anything, so there is nothing to wait for.
            () = stopped(&mut stop) => None,
        };
        let Some(spoken) = spoken else { return };
        let activity = Activity::new();
        let io = TokioIo::new(Noted::new(stream, Arc::clone(&activity)));
        let service = Answering { inner: service, activity: Arc::clone(&activity) };
        let over = activity.over(spoken, protocols.head, protocols.idle);
        let result = match spoken {
            Spoken::Http1 => {
                let connection = protocols.http1.serve_connection(io, service);
                tokio::select! {
                    biased;
                    result = watcher.watch(connection) => result,
                    () = over => return,
                }
            }
            Spoken::Http2 => {
                let connection = protocols.http2.serve_connection(io, service);
                tokio::select! {
                    biased;
                    result = watcher.watch(connection) => result,
                    () = over => return,
                }
            }
        };
        // What a client does to its connection is its own business.
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "a connection ended");
        }
    }
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
