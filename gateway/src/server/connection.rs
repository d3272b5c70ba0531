//! One connection from the accept to its end.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{self, Instant},
};
use tokio_rustls::server::TlsStream;

use crate::{
    config::{HttpLimits, Timeouts},
    server::{
        End, IncomingBody, ListenerControl, Listening, Peer, Tls,
        activity::{Activity, Protocol},
        h1::{framing::HeadLimits, wire::InspectingIo},
        h2::control_frames::PREFACE,
        metrics::Counted,
        permits::{ConnectionPermit, ConnectionPermits},
        proxy_header, tls,
        tracking::TrackedService,
    },
};

/// Flow-control windows: a client may be this far ahead of whoever reads its body.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a response that may wait for the client on each stream.
const SEND_BUFFER: usize = 64 << 10;
/// An HTTP/2 client that does not answer a ping for this long is gone.
const PING: Duration = Duration::from_secs(20);
/// Pause between two looks at a preface that has not arrived whole.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
/// When the gateway stops, a connection that was just made may have its request on the way.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long an idle HTTP/2 client gets to take leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Without a request for so long, a connection gives back what it needs for one. Longer than a
/// client that is at work takes between two.
const REST: Duration = Duration::from_secs(2);
/// More than the longest head that gets through, so that the library never refuses one.
const HEAD_ROOM: usize = 1 << 10;

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: std::net::SocketAddr,
    pub(crate) at: Instant,
}

/// Everything that the connections of one listener share.
pub(crate) struct Connections<M> {
    service: M,
    listening: Listening,
    places: Arc<ConnectionPermits>,
    counted: Counted,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    patience: Timeouts,
    head: HeadLimits,
    handshakes: Semaphore,
    orders: watch::Receiver<ListenerControl>,
}

impl<M, S, B> Connections<M>
where
    M: Fn(Peer) -> S + Send + Sync + 'static,
    S: Service<Request<IncomingBody>, Response = Response<B>> + Send + Unpin + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(crate) fn new(
        listening: Listening,
        service: M,
        orders: watch::Receiver<ListenerControl>,
    ) -> Self {
        let config = &listening.config;
        let counted = listening.metrics.of(listening.plane);
        let per_address = config.connections_per_address_max();
        Self {
            places: ConnectionPermits::new(
                listening.connections,
                per_address,
                counted.open().clone(),
            ),
            counted,
            http1: http1(&config.http),
            http2: http2(&config.http),
            patience: config.timeouts,
            head: HeadLimits {
                bytes: config.http.header_bytes,
                fields: config.http.headers,
                target_bytes: config.http.uri_bytes,
            },
            handshakes: Semaphore::new(config.tls_handshakes),
            service,
            listening,
            orders,
        }
    }

    /// Serves a connection, if there is a place for it.
    pub(crate) fn serve(self: &Arc<Self>, accepted: Accepted) {
        let place = match self.places.take() {
            Ok(place) => place,
            Err(end) => return self.counted.ended(end),
        };
        let connections = Arc::clone(self);
        // Ends with the connection; the drain waits for its place.
        tokio::spawn(async move {
            let mut place = place;
            if let Err(end) = connections.all(accepted, &mut place).await {
                connections.counted.ended(end);
            }
        });
    }

    /// Counts a connection that the system did not give us.
    pub(crate) fn not_accepted(&self) {
        self.counted.not_accepted();
    }

    /// Returns when all connections have ended.
    pub(crate) async fn all_ended(&self) {
        self.places.all_free().await;
    }

    /// Counts the connections that nobody waits for any more, and says how many there are.
    pub(crate) fn cut(&self) -> usize {
        let cut = self.places.taken();
        (0..cut).for_each(|_| self.counted.ended(End::Drain));
        cut
    }

    /// All of a connection. Why it ended, where that was our choice.
    async fn all(&self, accepted: Accepted, place: &mut ConnectionPermit) -> Result<(), End> {
        let Accepted { mut stream, peer: mut addr, at } = accepted;
        // Answers are written whole; waiting for more would only delay them.
        if stream.set_nodelay(true).is_err() {
            return Ok(());
        }
        let mut trusted = self.listening.trusted.contains(addr.ip());
        if trusted && self.listening.proxy_protocol {
            let header = proxy_header::read(&mut stream);
            let header = time::timeout(self.patience.head, header).await;
            if let Some(client) = header.ok().flatten().ok_or(End::ProxyHeader)? {
                addr = client;
                trusted = self.listening.trusted.contains(addr.ip());
            }
        }
        // A proxy has the connections of many.
        if !trusted {
            place.belongs_to(addr.ip())?;
        }
        let peer = Peer { addr, trusted, tls: self.listening.tls.is_some() };
        let mut orders = self.orders.clone();
        let hurry = async move {
            ListenerControl::stopped(&mut orders).await;
            time::sleep(LAST_WORDS).await;
        };
        let Some(tls) = &self.listening.tls else {
            let spoken = tokio::select! {
                spoken = spoken(&stream, at + self.patience.head) => spoken?,
                () = hurry => return Ok(()),
            };
            let Some(spoken) = spoken else { return Ok(()) };
            return self.http(stream, spoken, peer, at).await;
        };
        // Apart, so that a connection without it has no room for it.
        Box::pin(async {
            let stream = tokio::select! {
                stream = self.handshake(tls, stream, peer, at) => stream?,
                () = hurry => return Ok(()),
            };
            let chosen = stream.get_ref().1.alpn_protocol();
            let spoken = if chosen == Some(tls::HTTP2) { Protocol::Http2 } else { Protocol::Http1 };
            self.http(stream, spoken, peer, at).await
        })
        .await
    }

    async fn handshake(
        &self,
        tls: &Tls,
        stream: TcpStream,
        peer: Peer,
        at: Instant,
    ) -> Result<TlsStream<TcpStream>, End> {
        let _handshake = self.handshakes.try_acquire().map_err(|_| End::TlsHandshakes)?;
        let patience = self.listening.config.tls_handshake_timeout;
        let stream = time::timeout_at(at + patience, tls.acceptor().accept(stream)).await;
        stream.map_err(|_| End::TlsTimeout)?.map_err(|error| {
            tracing::debug!(peer = %peer.addr, %error, "a TLS handshake failed");
            End::TlsFailed
        })
    }

    /// A connection whose protocol is known.
    async fn http<T>(&self, stream: T, spoken: Protocol, peer: Peer, at: Instant) -> Result<(), End>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new(at);
        let service = TrackedService {
            inner: (self.service)(peer),
            activity: Arc::clone(&activity),
            leaving: Arc::clone(&self.listening.leaving),
        };
        // Apart, so that a connection which says nothing holds nothing, and no other has room for
        // the protocol that it does not speak.
        let result = match spoken {
            Protocol::Http1 => Box::pin(self.http1(stream, service, &activity)).await,
            Protocol::Http2 => Box::pin(self.http2(stream, service, &activity)).await,
        };
        // What a client does to its connection is its own business.
        if let Err(error) = result {
            tracing::debug!(peer = %peer.addr, %error, "a connection ended");
        }
        activity.ended().map_or(Ok(()), Err)
    }

    async fn http1<T>(
        &self,
        stream: T,
        mut service: TrackedService<S>,
        activity: &Arc<Activity>,
    ) -> hyper::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut wire = InspectingIo::http1(stream, Arc::clone(activity), self.head);
        loop {
            let mut connection = self.http1.serve_connection(TokioIo::new(wire), service);
            let driven =
                self.drive(Pin::new(&mut connection), Protocol::Http1, activity, Some(REST));
            if driven.await? == Driven::ToItsEnd {
                return Ok(());
            }
            // All that was asked for is answered. The library's buffers are most of what a
            // connection costs, and others can have them while there is nothing to be read.
            let parts = connection.into_parts();
            (wire, service) = (parts.io.into_inner(), parts.service);
            wire.put_back(&parts.read_buf);
            if wire.is_interrupted() || !self.rest(&mut wire, activity).await {
                return Ok(());
            }
        }
    }

    /// Waits for the next request on a connection that has given back what it does not need until
    /// then. Whether there is one.
    async fn rest<T: AsyncRead + Unpin>(
        &self,
        wire: &mut InspectingIo<T>,
        activity: &Activity,
    ) -> bool {
        let _resting = self.counted.resting();
        let mut orders = self.orders.clone();
        tokio::select! {
            biased;
            something = wire.has_something() => something.unwrap_or(false),
            over = activity.over(Protocol::Http1, &self.patience, None) => {
                over.is_err_and(|end| {
                    activity.end(end);
                    false
                })
            }
            () = ListenerControl::dismissed(&mut orders) => false,
        }
    }

    async fn http2<T>(
        &self,
        stream: T,
        service: TrackedService<S>,
        activity: &Arc<Activity>,
    ) -> hyper::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let frames = self.listening.config.http.control_frames_per_s;
        let wire = TokioIo::new(InspectingIo::http2(stream, Arc::clone(activity), frames));
        let mut connection = pin!(self.http2.serve_connection(wire, service));
        let driven = self.drive(connection.as_mut(), Protocol::Http2, activity, None).await;
        if activity.ended() == Some(End::Idle) {
            // It may just be sending a request, and learns that nobody has looked at it.
            connection.as_mut().graceful_shutdown();
            let _ = time::timeout(FAREWELL, connection).await;
        }
        driven.map(drop)
    }

    /// Drives a connection until it ends, or until it may rest.
    async fn drive<C: GracefulConnection>(
        &self,
        mut connection: Pin<&mut C>,
        spoken: Protocol,
        activity: &Activity,
        rest: Option<Duration>,
    ) -> Result<Driven, C::Error> {
        let mut over = pin!(activity.over(spoken, &self.patience, rest));
        let mut orders = self.orders.clone();
        let over = tokio::select! {
            biased;
            result = connection.as_mut() => return result.map(|()| Driven::ToItsEnd),
            over = &mut over => over,
            () = ListenerControl::dismissed(&mut orders) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    result = connection.as_mut() => return result.map(|()| Driven::ToItsEnd),
                    over = &mut over => over,
                }
            }
        };
        Ok(match over {
            Ok(()) => Driven::ToRest,
            Err(end) => {
                activity.end(end);
                Driven::ToItsEnd
            }
        })
    }
}

/// How far a connection was driven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driven {
    ToItsEnd,
    ToRest,
}

fn http1(config: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Each connection has its own timer, which also sees what this one does not.
        .header_read_timeout(None)
        // Most answers are short: copying them into one buffer costs less than two.
        .writev(false)
        .max_buf_size(config.header_bytes + HEAD_ROOM)
        .max_headers(config.headers);
    builder
}

fn http2(config: &HttpLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.http2_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(config.http2_header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// Waits until it is clear what the client speaks. `None` when it leaves before.
async fn spoken(stream: &TcpStream, deadline: Instant) -> Result<Option<Protocol>, End> {
    let look = async {
        let mut start = [0; PREFACE.len()];
        loop {
            let seen = stream.peek(&mut start).await.ok()?;
            match &start[..seen] {
                [] => return None,
                seen if !PREFACE.starts_with(seen) => return Some(Protocol::Http1),
                seen if seen.len() == PREFACE.len() => return Some(Protocol::Http2),
                // The bytes stay where they are, so that waiting for "readable" would spin.
                _ => time::sleep(PREFACE_PAUSE).await,
            }
        }
    };
    time::timeout_at(deadline, look).await.map_err(|_| End::Head)
}
