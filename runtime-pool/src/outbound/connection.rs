//! Opening a connection: resolve, vet, dial, secure.

use std::{net::SocketAddr, time::Duration};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::{self, Instant},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use url::Host;
use wasmtime_wasi_http::{RequestOptions, WasiBody};

use super::{Client, Listeners, OutboundConfig, address, failure::Failure, target::Target};
use crate::metrics::GaugeGuard;

/// Addresses of one name that are tried one after the other.
const ATTEMPTS: usize = 8;
/// The shortest time that a guest can set: none at all would be no attempt.
const LEAST: Duration = Duration::from_millis(1);

/// A byte stream, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open HTTP/1.1 connection. Closed when dropped.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<WasiBody>,
    _driver: AbortOnDrop,
    _open: GaugeGuard,
}

/// How long each step of one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) connect: Duration,
    pub(super) tls: Duration,
    pub(super) first_byte: Duration,
    pub(super) between_bytes: Duration,
}

impl Times {
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

impl Client {
    /// Opens a connection to one of the target's addresses.
    pub(super) async fn connect(
        &self,
        target: &Target,
        tls: impl FnOnce() -> TlsConnector,
        times: &Times,
    ) -> Result<Connection, Failure> {
        let stream = self.dial(target, times.connect).await?;
        // Requests are small and waited for.
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let stream: Box<dyn Stream> = if target.scheme == http::uri::Scheme::HTTPS {
            Box::new(secure(target, stream, &tls(), times.tls).await?)
        } else {
            Box::new(stream)
        };
        let open = GaugeGuard::new(&self.metrics.outbound.connections);
        let (sender, driver) = http1::Builder::new()
            .max_headers(self.config.headers)
            .max_buf_size(self.config.header_bytes)
            .handshake(TokioIo::new(stream))
            .await?;
        // Whoever waits for an answer is told what went wrong; nobody else needs to know.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Connection { sender, _driver: AbortOnDrop(driver.abort_handle()), _open: open })
    }

    /// Resolves once and dials what was vetted: a second answer of the name server would change
    /// nothing.
    async fn dial(&self, target: &Target, within: Duration) -> Result<TcpStream, Failure> {
        let deadline = Instant::now() + within;
        let addresses = time::timeout_at(deadline, self.resolver.resolve(target))
            .await
            .map_err(|_| Failure::NameTime(within))??;
        // One address that is not permitted taints the name: it may be there to be found by chance.
        for address in &addresses {
            self.vet(*address)?;
        }
        let mut last = Failure::ConnectTime(within);
        let attempts = addresses.len().min(ATTEMPTS);
        for (address, left) in addresses.into_iter().zip((1..=attempts).rev()) {
            // None of them may use up the time of those after it.
            let share = deadline.saturating_duration_since(Instant::now()) / to_u32(left);
            match time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Failure::Connect(error),
                Err(_) => last = Failure::ConnectTime(within),
            }
        }
        Err(last)
    }

    fn vet(&self, address: SocketAddr) -> Result<(), Failure> {
        // Who serves nobody, such as a benchmark, listens nowhere.
        let none = Listeners::default();
        address::vet(&self.config, self.listeners.get().unwrap_or(&none), address)
    }
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

async fn secure(
    target: &Target,
    stream: TcpStream,
    tls: &TlsConnector,
    within: Duration,
) -> Result<impl Stream + use<>, Failure> {
    let name = match &target.host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| Failure::Address)?,
        Host::Ipv4(ip) => ServerName::IpAddress(std::net::IpAddr::V4(*ip).into()),
        Host::Ipv6(ip) => ServerName::IpAddress(std::net::IpAddr::V6(*ip).into()),
    };
    time::timeout(within, tls.connect(name, stream))
        .await
        .map_err(|_| Failure::TlsTime(within))?
        .map_err(Failure::Tls)
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn g17_a_guest_can_shorten_times_and_never_lengthen_them(
            connect: Option<u64>, first_byte: Option<u64>, between: Option<u64>,
        ) {
            let config = OutboundConfig::default();
            let guest = RequestOptions {
                connect_timeout: connect.map(Duration::from_nanos),
                first_byte_timeout: first_byte.map(Duration::from_nanos),
                between_bytes_timeout: between.map(Duration::from_nanos),
            };
            let times = Times::of(&config, &guest);
            for (time, own, asked) in [
                (times.connect, config.connect, connect),
                (times.tls, config.tls, connect),
                (times.first_byte, config.first_byte, first_byte),
                (times.between_bytes, config.between_bytes, between),
            ] {
                prop_assert!(time <= own && time >= LEAST);
                let asked = asked.map_or(own, Duration::from_nanos);
                prop_assert!(time == own.min(asked) || (asked < LEAST && time == LEAST));
                // What is added to the clock must not overflow it.
                let _ = Instant::now() + time;
            }
        }
    }
}
