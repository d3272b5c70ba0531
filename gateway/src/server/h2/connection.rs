//! One connection of HTTP/2.
//!
//! The library `h2` does frames, flow control and the compression of fields; here its streams become
//! requests and responses. hyper would do that as well, but has no way to send an interim response,
//! for which a client may wait (`Expect: 100-continue`).

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, Handshake, SendResponse},
};
use http::{Request, Response, header};
use http_body::Body;
use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    config::HttpLimits,
    server::{
        activity::Activity,
        h2::{keep_alive::KeepAlive, received_body::Http2Body, stream::Http2Stream},
    },
};

/// Flow-control windows: how many bytes a client may send before the reader of the body asks for
/// more.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of a response that each stream may buffer for the client.
const SEND_BUFFER: usize = 64 << 10;
/// The longest frame that clients may send: the protocol's smallest value for this limit.
const FRAME_BYTES: u32 = 16 << 10;
/// Errors of the client for which its streams are reset, until the connection is ended: a flood of
/// them is an attack. Arbitrary, and more than an honest client ever causes.
const RESETS: usize = 1_024;
/// A client that has been silent for so long is sent a ping, and has as long to answer.
const PING: Duration = Duration::from_secs(20);
/// How many times the longest allowed head the protocol library reads. Up to there the gateway
/// refuses a request; beyond, the library ends the connection.
const HEAD_HEADROOM: u32 = 4;

/// The settings of the protocol library.
pub(crate) fn http2_builder(limits: &HttpLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_header_list_size(
            u32::try_from(limits.http2_header_bytes)
                .unwrap_or(u32::MAX)
                .saturating_mul(HEAD_HEADROOM),
        )
        .max_local_error_reset_streams(Some(RESETS))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Serves the requests of a connection. Ends with it.
pub(crate) struct Http2Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    state: State<T>,
    service: S,
    activity: Arc<Activity>,
    ping: Duration,
    shuts_down: bool,
}

enum State<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    Handshake(Handshake<T, Bytes>),
    Serving(Connection<T, Bytes>, Option<KeepAlive>),
}

impl<T, S> Http2Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Unpin,
{
    pub(crate) fn new(builder: &Builder, io: T, service: S, activity: Arc<Activity>) -> Self {
        let state = State::Handshake(builder.handshake(io));
        Self { state, service, activity, ping: PING, shuts_down: false }
    }

    /// Lets the client send no more requests. The connection ends when all have been answered.
    pub(crate) fn graceful_shutdown(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.shuts_down = true;
        if let State::Serving(connection, _) = &mut this.state {
            connection.graceful_shutdown();
        }
    }
}

impl<T, S, B> Http2Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Http2Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    fn serve(service: &S, request: Request<RecvStream>, reply: SendResponse<Bytes>) {
        let expects = request.headers().contains_key(header::EXPECT);
        let (head, stream) = request.into_parts();
        let (body, wanted) = Http2Body::new(stream, &head.headers, expects);
        let response = service.call(Request::from_parts(head, body));
        // The task ends with the stream, or with the connection.
        tokio::spawn(Http2Stream::new(response, reply, wanted));
    }
}

impl<T, S, B> Future for Http2Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Http2Body>, Response = Response<B>> + Unpin,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Handshake(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if this.shuts_down {
                        connection.graceful_shutdown();
                    }
                    let activity = Arc::clone(&this.activity);
                    let pings = connection.ping_pong();
                    let keep_alive = pings.map(|pings| KeepAlive::new(pings, activity, this.ping));
                    this.state = State::Serving(connection, keep_alive);
                }
                State::Serving(connection, keep_alive) => {
                    if keep_alive.as_mut().is_some_and(|alive| alive.poll_silence(cx).is_ready()) {
                        connection.abrupt_shutdown(Reason::NO_ERROR);
                    }
                    match ready!(connection.poll_accept(cx)) {
                        Some(accepted) => {
                            let (request, reply) = accepted?;
                            Self::serve(&this.service, request, reply);
                        }
                        None => return Poll::Ready(Ok(())),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Empty;
    use hyper::service::service_fn;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        time::{self, Instant},
    };

    use super::*;
    use crate::server::{h1::inspecting_io::InspectingIo, h2::control_frames::PREFACE};

    const PRIORITY: [u8; 14] = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0];

    /// A connection to a server that sends pings after `ping`.
    async fn connect(ping: Duration) -> DuplexStream {
        let (mut client, io) = tokio::io::duplex(1 << 16);
        let activity = Activity::new(Instant::now());
        let io = InspectingIo::http2(io, Arc::clone(&activity), 1_000);
        let service = service_fn(|_: Request<Http2Body>| async {
            Ok::<_, Infallible>(Response::new(Empty::new()))
        });
        let mut connection = Http2Connection::new(&Builder::new(), io, service, activity);
        connection.ping = ping;
        tokio::spawn(connection);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        client
    }

    /// The payload of the next ping; `None` at the end of the connection.
    async fn next_ping(client: &mut DuplexStream) -> Option<[u8; 8]> {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            client.read_exact(&mut payload).await.ok()?;
            if head[3..5] == [6, 0] {
                return Some(payload.try_into().unwrap());
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_answers_no_ping_has_left() {
        let mut client = connect(Duration::from_millis(50)).await;
        assert!(next_ping(&mut client).await.is_some());
        assert_eq!(next_ping(&mut client).await, None);
    }

    #[tokio::test]
    async fn a_client_that_answers_pings_or_sends_anything_else_is_there() {
        let answering = async {
            let mut client = connect(Duration::from_secs(1)).await;
            for _ in 0..3 {
                let ping = next_ping(&mut client).await.expect("the connection stays open");
                let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0], ping.as_slice()].concat();
                client.write_all(&answer).await.unwrap();
            }
        };
        let sending = async {
            let mut client = connect(Duration::from_secs(1)).await;
            for _ in 0..35 {
                client.write_all(&PRIORITY).await.expect("the connection stays open");
                time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::join!(answering, sending);
    }
}
