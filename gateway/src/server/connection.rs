//! One connection, from the accept to its end.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{server::conn::http1, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    time::{self, Instant},
};

use crate::{
    config::{HttpLimits, Timeouts},
    server::{
        activity::{Activity, Protocol},
        h1::{
            framing::HeadLimits,
            inspecting_io::{InspectingIo, Reset},
        },
        h2::{
            connection::{Http2Connection, http2_builder},
            control_frames::PREFACE,
        },
        listener_config::ListenerConfig,
        listener_control::ListenerControl,
        metrics::{CloseReason, ListenerMetrics},
        peer::Peer,
        permits::{ConnectionPermit, ConnectionPermits},
        proxy_header,
        tls::{accept, handshakes::Handshakes},
        tracking::{IncomingBody, TrackedService},
    },
};

/// Pause between two checks of a preface that has not arrived completely.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
/// When the listener stops, how long a new connection gets to send a request that is on its way.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// How long an idle HTTP/2 connection gets to shut down gracefully.
const GRACEFUL_SHUTDOWN: Duration = Duration::from_secs(1);
/// A connection without a request for so long releases its buffers. Longer than the pause of an
/// active client between two requests.
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// Bytes beyond the longest allowed head, so that the protocol library never rejects a head that
/// passed our own check.
const HEAD_MARGIN: usize = 1 << 10;

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: std::net::SocketAddr,
    pub(crate) at: Instant,
}

/// State that the connections of one listener share.
pub(crate) struct Connections<M> {
    service: M,
    config: ListenerConfig,
    permits: Arc<ConnectionPermits>,
    metrics: ListenerMetrics,
    http1: http1::Builder,
    http2: h2::server::Builder,
    timeouts: Timeouts,
    head: HeadLimits,
    handshakes: Handshakes,
    control: watch::Receiver<ListenerControl>,
}

impl<M, S, B> Connections<M>
where
    M: Fn(Peer) -> S + Send + Sync + 'static,
    S: Service<Request<IncomingBody>, Response = Response<B>> + Send + Unpin + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(crate) fn new(
        config: ListenerConfig,
        service: M,
        control: watch::Receiver<ListenerControl>,
    ) -> Self {
        let settings = &config.settings;
        let metrics = config.metrics.of(config.plane);
        let per_address = settings.connections_per_address_max();
        Self {
            permits: ConnectionPermits::new(
                config.connections,
                per_address,
                metrics.open().clone(),
            ),
            metrics,
            http1: http1(&settings.http),
            http2: http2_builder(&settings.http),
            timeouts: settings.timeouts,
            head: HeadLimits {
                bytes: settings.http.header_bytes,
                fields: settings.http.headers,
                target_bytes: settings.http.uri_bytes,
            },
            handshakes: Handshakes::new(settings.tls_handshakes),
            service,
            config,
            control,
        }
    }

    /// Serves a connection, if there is a permit for it.
    pub(crate) fn serve(self: &Arc<Self>, accepted: Accepted) {
        let activity = Activity::new(accepted.at);
        let permit = match self.permits.acquire(&activity) {
            Ok(permit) => permit,
            Err(reason) => return self.metrics.closed(reason),
        };
        let connections = Arc::clone(self);
        // The task ends with the connection; the drain waits for its permit.
        tokio::spawn(async move {
            let mut permit = permit;
            let ended = tokio::select! {
                biased;
                ended = connections.run(accepted, &mut permit, &activity) => ended,
                () = activity.must_end() => Err(CloseReason::Address),
            };
            if let Err(reason) = ended {
                connections.metrics.closed(reason);
            }
        });
    }

    /// Serves a connection of a Unix socket, whose clients speak HTTP/1.
    pub(crate) fn serve_local(self: &Arc<Self>, stream: UnixStream, user: u32, at: Instant) {
        let activity = Activity::new(at);
        let permit = match self.permits.acquire(&activity) {
            Ok(permit) => permit,
            Err(reason) => return self.metrics.closed(reason),
        };
        let connections = Arc::clone(self);
        // The task ends with the connection; the drain waits for its permit.
        tokio::spawn(async move {
            let _permit = permit;
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let peer = Peer {
                addr,
                trusted: false,
                tls: false,
                certificate: None,
                local_user: Some(user),
            };
            if let Err(reason) = connections.http(stream, Protocol::Http1, peer, &activity).await {
                connections.metrics.closed(reason);
            }
        });
    }

    /// Counts a connection of a user who may not use the Unix socket.
    pub(crate) fn refuse_user(&self) {
        self.metrics.closed(CloseReason::User);
    }

    /// Counts an accept that failed.
    pub(crate) fn accept_failed(&self) {
        self.metrics.accept_failed();
    }

    /// Returns when all connections have ended.
    pub(crate) async fn all_ended(&self) {
        self.permits.all_released().await;
    }

    /// Counts the connections that are still open when the drain ends, and returns their number.
    pub(crate) fn count_aborted(&self) -> usize {
        let open = self.permits.taken();
        (0..open).for_each(|_| self.metrics.closed(CloseReason::Drain));
        open
    }

    /// Serves a connection to its end. `Err` if the gateway chose to end it.
    async fn run(
        &self,
        accepted: Accepted,
        permit: &mut ConnectionPermit,
        activity: &Arc<Activity>,
    ) -> Result<(), CloseReason> {
        let Accepted { mut stream, peer: mut addr, at } = accepted;
        // Responses are written whole: waiting for more data would only delay them.
        if stream.set_nodelay(true).is_err() {
            return Ok(());
        }
        let mut trusted = self.config.trusted.contains(addr.ip());
        if trusted && self.config.proxy_protocol {
            let header = proxy_header::read(&mut stream);
            let header = time::timeout(self.timeouts.head, header).await;
            if let Some(client) = header.ok().flatten().ok_or(CloseReason::ProxyHeader)? {
                addr = client;
                trusted = self.config.trusted.contains(addr.ip());
            }
        }
        // The connections of a trusted proxy belong to many clients.
        if !trusted {
            permit.count_for(addr.ip())?;
        }
        let tls = self.config.tls.is_some();
        let peer = Peer { addr, trusted, tls, certificate: None, local_user: None };
        let mut control = self.control.clone();
        let stopped = async move {
            ListenerControl::stopped(&mut control).await;
            time::sleep(LAST_REQUEST).await;
        };
        let Some(tls) = &self.config.tls else {
            let protocol = tokio::select! {
                protocol = detect_protocol(&stream, at + self.timeouts.head) => protocol?,
                () = stopped => return Ok(()),
            };
            let Some(protocol) = protocol else { return Ok(()) };
            return self.http(stream, protocol, peer, activity).await;
        };
        let (begin, timeout) =
            (at + self.timeouts.head, self.config.settings.tls_handshake_timeout);
        // Boxed: otherwise the task of a connection without TLS would have the size of one with it.
        Box::pin(async {
            let stream = tokio::select! {
                stream = self.handshakes.accept(tls, stream, peer, begin, timeout) => stream?,
                () = stopped => return Ok(()),
            };
            let Some(stream) = stream else { return Ok(()) };
            let named = stream.get_ref().1.server_name();
            let peer = Peer { certificate: tls.certificate_of(named), ..peer };
            let protocol =
                if accept::is_http2(&stream) { Protocol::Http2 } else { Protocol::Http1 };
            self.http(stream, protocol, peer, activity).await
        })
        .await
    }

    /// Serves a connection whose protocol is known.
    async fn http<T>(
        &self,
        stream: T,
        protocol: Protocol,
        peer: Peer,
        activity: &Arc<Activity>,
    ) -> Result<(), CloseReason>
    where
        T: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    {
        let service = TrackedService {
            inner: (self.service)(peer),
            activity: Arc::clone(activity),
            draining: Arc::clone(&self.config.draining),
            linger: self.config.settings.linger,
            http2_header_bytes: self.config.settings.http.http2_header_bytes,
        };
        // Boxed: a silent connection then holds no state of a protocol, and every other one only
        // that of its own.
        let result: Result<(), Box<dyn std::error::Error + Send + Sync>> = match protocol {
            Protocol::Http1 => {
                Box::pin(self.http1(stream, service, activity)).await.map_err(Into::into)
            }
            Protocol::Http2 => {
                Box::pin(self.http2(stream, service, activity)).await.map_err(Into::into)
            }
        };
        // Clients may break their connections: that is no error of the gateway.
        if let Err(error) = result {
            tracing::debug!(peer = %peer.addr, %error, "a connection ended");
        }
        activity.close_reason().map_or(Ok(()), Err)
    }

    async fn http1<T>(
        &self,
        stream: T,
        mut service: TrackedService<S>,
        activity: &Arc<Activity>,
    ) -> hyper::Result<()>
    where
        T: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    {
        let half_close = self.timeouts.half_close;
        let activity_of_io = Arc::clone(activity);
        let mut io = InspectingIo::http1(stream, activity_of_io, self.head, half_close, T::reset);
        loop {
            let mut connection = self.http1.serve_connection(TokioIo::new(io), service);
            let over = activity.watch(Protocol::Http1, &self.timeouts, Some(IDLE_AFTER));
            let shutdown = http1::Connection::graceful_shutdown;
            let driven = self.drive(Pin::new(&mut connection), shutdown, activity, over);
            if driven.await? == Driven::Closed {
                return Ok(());
            }
            // Every request has its response. The library's buffers are most of the memory of a
            // connection: release them until there is something to read.
            let parts = connection.into_parts();
            (io, service) = (parts.io.into_inner(), parts.service);
            io.unread(&parts.read_buf);
            if io.is_interrupted() || !self.wait_idle(&mut io, activity).await {
                return Ok(());
            }
        }
    }

    /// Waits for the next request on a connection that has released its buffers. Whether there is
    /// one.
    async fn wait_idle<T: AsyncRead + Unpin>(
        &self,
        io: &mut InspectingIo<T>,
        activity: &Activity,
    ) -> bool {
        let _idle = self.metrics.idle();
        let mut control = self.control.clone();
        tokio::select! {
            biased;
            readable = io.readable() => readable.unwrap_or(false),
            over = activity.watch(Protocol::Http1, &self.timeouts, None) => {
                over.is_err_and(|reason| {
                    activity.close(reason);
                    false
                })
            }
            () = ListenerControl::recycled(&mut control) => false,
        }
    }

    async fn http2<T>(
        &self,
        stream: T,
        service: TrackedService<S>,
        activity: &Arc<Activity>,
    ) -> Result<(), h2::Error>
    where
        T: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    {
        let frames = self.config.settings.http.control_frames_per_s;
        let io = InspectingIo::http2(stream, Arc::clone(activity), frames);
        let activity_of_it = Arc::clone(activity);
        let mut connection = pin!(Http2Connection::new(&self.http2, io, service, activity_of_it));
        let over = activity.watch(Protocol::Http2, &self.timeouts, None);
        let shutdown = Http2Connection::graceful_shutdown;
        let driven = self.drive(connection.as_mut(), shutdown, activity, over).await;
        if activity.close_reason() == Some(CloseReason::Idle) {
            // The client may just be sending a request, and learns that it was not processed.
            connection.as_mut().graceful_shutdown();
            let _ = time::timeout(GRACEFUL_SHUTDOWN, connection).await;
        }
        driven.map(drop)
    }

    /// Drives a connection until it closes, or until `over` says that it has been idle or must be
    /// closed. `shutdown` lets it end when its requests have been answered.
    async fn drive<C, E>(
        &self,
        mut connection: Pin<&mut C>,
        shutdown: impl Fn(Pin<&mut C>),
        activity: &Activity,
        over: impl Future<Output = Result<(), CloseReason>>,
    ) -> Result<Driven, E>
    where
        C: Future<Output = Result<(), E>>,
    {
        let mut over = pin!(over);
        let mut control = self.control.clone();
        let over = tokio::select! {
            biased;
            result = connection.as_mut() => return result.map(|()| Driven::Closed),
            over = &mut over => over,
            () = ListenerControl::recycled(&mut control) => {
                shutdown(connection.as_mut());
                tokio::select! {
                    biased;
                    result = connection.as_mut() => return result.map(|()| Driven::Closed),
                    over = &mut over => over,
                }
            }
        };
        Ok(match over {
            Ok(()) => Driven::Idle,
            Err(reason) => {
                activity.close(reason);
                Driven::Closed
            }
        })
    }
}

/// How far a connection was driven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driven {
    Closed,
    Idle,
}

fn http1(config: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Each connection has a timer in `activity`, which covers more than this one.
        .header_read_timeout(None)
        // Most responses are short: copying them into one buffer is cheaper than two writes.
        .writev(false)
        .max_buf_size(config.header_bytes + HEAD_MARGIN)
        .max_headers(config.headers);
    builder
}

/// Waits until the first bytes show the client's protocol. `None` if the client leaves before.
async fn detect_protocol(
    stream: &TcpStream,
    deadline: Instant,
) -> Result<Option<Protocol>, CloseReason> {
    let detected = async {
        let mut start = [0; PREFACE.len()];
        loop {
            let seen = stream.peek(&mut start).await.ok()?;
            match &start[..seen] {
                [] => return None,
                seen if !PREFACE.starts_with(seen) => return Some(Protocol::Http1),
                seen if seen.len() == PREFACE.len() => return Some(Protocol::Http2),
                // The bytes stay in the socket, which would always be "readable": waiting for that
                // would spin.
                _ => time::sleep(PREFACE_PAUSE).await,
            }
        }
    };
    time::timeout_at(deadline, detected).await.map_err(|_| CloseReason::Head)
}
