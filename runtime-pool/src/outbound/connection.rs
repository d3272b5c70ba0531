//! Makes an HTTP/1.1 connection of a TCP stream, with TLS if the target's scheme is `https`.

use std::time::Duration;

use http::uri::Scheme;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use url::Host;
use wasmtime_wasi_http::{RequestOptions, WasiBody};

use super::{config::OutboundConfig, failure::OutboundFailure, rules::target::Target};
use crate::metrics::{GaugeGuard, PoolMetrics};

/// The shortest timeout that a guest can set. With zero no attempt would be made.
const LEAST: Duration = Duration::from_millis(1);

/// A byte stream, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open HTTP/1.1 connection. Closed when dropped.
pub(super) struct UpstreamConnection {
    pub(super) sender: http1::SendRequest<WasiBody>,
    _driver: DriverTask,
    _open: GaugeGuard,
}

impl UpstreamConnection {
    /// Takes over `stream`, which leads to `target`.
    pub(super) async fn open(
        stream: TcpStream,
        target: &Target,
        tls: impl FnOnce() -> TlsConnector,
        tls_time: Duration,
        config: &OutboundConfig,
        metrics: &PoolMetrics,
    ) -> Result<Self, OutboundFailure> {
        // Requests are small, and the guest waits for the response.
        stream.set_nodelay(true).map_err(OutboundFailure::Connect)?;
        let stream: Box<dyn Stream> = if target.scheme == Scheme::HTTPS {
            Box::new(secure(target, stream, &tls(), tls_time).await?)
        } else {
            Box::new(stream)
        };
        let open = GaugeGuard::new(&metrics.outbound.connections);
        let (sender, driver) = http1::Builder::new()
            .max_headers(config.headers)
            .max_buf_size(config.header_bytes)
            .handshake(TokioIo::new(stream))
            .await?;
        // The request that waits for an answer learns what went wrong.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Self { sender, _driver: DriverTask(driver.abort_handle()), _open: open })
    }
}

/// The timeouts of the steps of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepTimeouts {
    pub(super) connect: Duration,
    pub(super) tls: Duration,
    pub(super) first_byte: Duration,
    pub(super) between_bytes: Duration,
}

impl StepTimeouts {
    /// A guest can only shorten what the operator allows.
    pub(super) fn of(config: &OutboundConfig, guest: &RequestOptions) -> Self {
        let at_most =
            |own: Duration, guest: Option<Duration>| guest.map_or(own, |d| d.max(LEAST).min(own));
        Self {
            connect: at_most(config.connect, guest.connect_timeout),
            tls: at_most(config.tls, guest.connect_timeout),
            first_byte: at_most(config.first_byte, guest.first_byte_timeout),
            between_bytes: at_most(config.between_bytes, guest.between_bytes_timeout),
        }
    }
}

async fn secure(
    target: &Target,
    stream: TcpStream,
    tls: &TlsConnector,
    within: Duration,
) -> Result<impl Stream + use<>, OutboundFailure> {
    let name = match &target.host {
        Host::Domain(name) => {
            ServerName::try_from(name.clone()).map_err(|_| OutboundFailure::Address)?
        }
        Host::Ipv4(ip) => ServerName::IpAddress(std::net::IpAddr::V4(*ip).into()),
        Host::Ipv6(ip) => ServerName::IpAddress(std::net::IpAddr::V6(*ip).into()),
    };
    time::timeout(within, tls.connect(name, stream))
        .await
        .map_err(|_| OutboundFailure::TlsTime(within))?
        .map_err(OutboundFailure::Tls)
}

/// The task that drives a connection. Dropping it closes the connection.
struct DriverTask(AbortHandle);

impl Drop for DriverTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Case G17.
        #[test]
        fn a_guest_can_shorten_times_and_never_lengthen_them(
            connect: Option<u64>, first_byte: Option<u64>, between: Option<u64>,
        ) {
            let config = OutboundConfig::default();
            let guest = RequestOptions {
                connect_timeout: connect.map(Duration::from_nanos),
                first_byte_timeout: first_byte.map(Duration::from_nanos),
                between_bytes_timeout: between.map(Duration::from_nanos),
            };
            let times = StepTimeouts::of(&config, &guest);
            for (time, own, asked) in [
                (times.connect, config.connect, connect),
                (times.tls, config.tls, connect),
                (times.first_byte, config.first_byte, first_byte),
                (times.between_bytes, config.between_bytes, between),
            ] {
                prop_assert!(time <= own && time >= LEAST);
                let asked = asked.map_or(own, Duration::from_nanos);
                prop_assert!(time == own.min(asked) || (asked < LEAST && time == LEAST));
                // The sum of the clock and the timeout must not overflow.
                let _ = Instant::now() + time;
            }
        }
    }
}
