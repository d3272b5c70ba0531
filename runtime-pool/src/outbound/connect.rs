//! One request to one host: resolve, vet, dial, speak HTTP/1.1.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Uri, uri::Scheme};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    task::AbortHandle,
    time::{self, Instant, Sleep},
};
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::{Client, Io, Sent, address::is_public};

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    /// Lower case, without a dot at its end; an IPv6 address in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Error> {
        let scheme = uri.scheme().cloned().ok_or(Error::HttpRequestUriInvalid)?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(Error::HttpProtocolError);
        }
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        // A user name would only hide where the request really goes.
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        let mut target = Self { scheme, host, port: 0 };
        target.port = authority.port_u16().unwrap_or(target.default_port());
        Ok(target)
    }

    pub(crate) fn default_port(&self) -> u16 {
        if self.scheme == Scheme::HTTPS { 443 } else { 80 }
    }

    /// The name without the brackets of an IPv6 address.
    fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// A byte stream, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    pub(super) async fn send(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
        permit: OwnedSemaphorePermit,
    ) -> Sent {
        let target = Target::of(request.uri())?;
        // A guest can only shorten what the operator allows.
        let at_most = |own: Duration, guest: Option<Duration>| guest.map_or(own, |d| d.min(own));
        let connect = at_most(self.config.connect, options.connect_timeout);
        let stream = time::timeout(connect, self.dial(&target))
            .await
            .map_err(|_| Error::ConnectionTimeout)??;
        let stream = self.secure(&target, stream).await?;

        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Owned by the guard below, which travels with the response.
        let connection = tokio::spawn(async move {
            let _permit = permit;
            connection.await.map_err(Error::from)
        });
        let guard = AbortOnDrop(connection.abort_handle());

        let first_byte = at_most(self.config.first_byte, options.first_byte_timeout);
        let response = time::timeout(first_byte, sender.send_request(origin_form(request)?))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)??;
        let between = at_most(self.config.between_bytes, options.between_bytes_timeout);
        let left = self.config.response_bytes;
        let response = response.map(|body| ResponseBody::new(body, between, left).boxed_unsync());
        let io: Io = Box::new(async move {
            let _guard = guard;
            connection.await.map_err(|error| Error::InternalError(Some(error.to_string())))?
        });
        Ok((response, io))
    }

    async fn dial(&self, target: &Target) -> Result<TcpStream, Error> {
        let addresses = resolve(target).await?;
        // One address that is not public taints the name: it may be there to be found by chance.
        if !self.config.allow_private && !addresses.iter().all(|addr| is_public(addr.ip())) {
            return Err(Error::DestinationIpProhibited);
        }
        let mut last = Error::DestinationNotFound;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Requests are small and waited for.
                    stream.set_nodelay(true).map_err(Error::Connect)?;
                    return Ok(stream);
                }
                Err(error) => last = Error::Connect(error),
            }
        }
        Err(last)
    }

    async fn secure(&self, target: &Target, stream: TcpStream) -> Result<Box<dyn Stream>, Error> {
        if target.scheme == Scheme::HTTP {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(target.name().to_owned())
            .map_err(|_| Error::HttpRequestUriInvalid)?;
        let stream = time::timeout(self.config.tls, self.tls.connect(name, stream))
            .await
            .map_err(|_| Error::ConnectionTimeout)?
            .map_err(Error::Tls)?;
        Ok(Box::new(stream))
    }
}

async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = target.name().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let not_found = |rcode: String| Error::DnsError { rcode: Some(rcode), info_code: None };
    let addresses: Vec<_> = tokio::net::lookup_host((target.name(), target.port))
        .await
        .map_err(|error| not_found(error.to_string()))?
        .collect();
    if addresses.is_empty() { Err(not_found("no address".into())) } else { Ok(addresses) }
}

/// To the host itself a request names only the path; the host is in its own header.
fn origin_form(request: http::Request<WasiBody>) -> Result<http::Request<WasiBody>, Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    parts.uri = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    Ok(http::Request::from_parts(parts, body))
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A response's body with its limits.
struct ResponseBody {
    body: Incoming,
    left: u64,
    between: Duration,
    silence: Pin<Box<Sleep>>,
}

impl ResponseBody {
    fn new(body: Incoming, between: Duration, left: u64) -> Self {
        Self { body, left, between, silence: Box::pin(time::sleep(between)) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return this
                .silence
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err(Error::ConnectionReadTimeout)));
        };
        this.silence.as_mut().reset(Instant::now() + this.between);
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Error::from).and_then(|frame| {
            let len = frame.data_ref().map_or(0, Bytes::len) as u64;
            match this.left.checked_sub(len) {
                Some(left) => this.left = left,
                None => return Err(Error::HttpResponseBodySize(None)),
            }
            Ok(frame)
        });
        Poll::Ready(Some(frame))
    }
}
