//! Makes the handshake of one connection.

use std::time::Duration;

use tokio::{
    net::TcpStream,
    time::{self, Instant},
};
use tokio_rustls::server::TlsStream;

use crate::server::{
    metrics::CloseReason,
    peer::{Peer, client_of},
    tls::{HTTP2, Tls, handshakes::Handshakes},
};

impl Handshakes {
    /// Makes a handshake, which must begin until `begin` and then take no longer than `timeout`.
    /// `None` if the client leaves before it.
    pub(crate) async fn accept(
        &self,
        tls: &Tls,
        stream: TcpStream,
        peer: Peer,
        begin: Instant,
        timeout: Duration,
    ) -> Result<Option<TlsStream<TcpStream>>, CloseReason> {
        // A client that says nothing takes no place from others.
        let first = time::timeout_at(begin, stream.peek(&mut [0])).await;
        if !matches!(first.map_err(|_| CloseReason::Head)?, Ok(1..)) {
            return Ok(None);
        }
        let deadline = Instant::now() + timeout;
        let client = client_of(peer.addr.ip());
        let place = self.enter(client, peer.trusted, deadline).await;
        let mut place = place.ok_or(CloseReason::TlsHandshakes)?;
        let stream = tokio::select! {
            biased;
            stream = time::timeout_at(deadline, tls.acceptor().accept(stream)) => stream,
            () = place.ended() => return Err(CloseReason::TlsHandshakes),
        };
        stream.map_err(|_| CloseReason::TlsTimeout)?.map(Some).map_err(|error| {
            tracing::debug!(peer = %peer.addr, %error, "a TLS handshake failed");
            CloseReason::TlsFailed
        })
    }
}

/// Whether the client and the gateway have agreed on HTTP/2.
pub(crate) fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}
