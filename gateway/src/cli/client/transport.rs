//! One HTTP request on a connection of its own.

use std::{fmt::Display, io, net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustix::process::geteuid;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::cli::{client::tls::Trust, failure::Failure};

/// The time to connect.
const CONNECT_SECONDS: u64 = 10;

/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The listener that a request goes to. It decides the hints of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plane<'a> {
    /// The control plane's Unix socket.
    Socket(&'a Path),
    /// The control plane, which gets the token; `insecure` lets that leave this machine unencrypted.
    Control {
        insecure: bool,
    },
    Data,
}

/// Parses the address of a gateway.
pub(crate) fn parse_url(url: &str) -> Result<Uri, Failure> {
    let wrong = |reason: &str| Failure::usage(format!("`{url}` {reason}"));
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("does not begin with http:// or https://"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    Ok(uri)
}

/// Sends `request` and waits for the head of the response. The target of the request is an absolute
/// URL, as [`parse_url`] returns it.
pub(crate) async fn send(
    mut request: Request<Body>,
    plane: Plane<'_>,
    trust: &Trust,
    head_deadline: Duration,
) -> Result<Response<Incoming>, Failure> {
    let uri = std::mem::take(request.uri_mut());
    let authority = uri.authority().ok_or_else(|| Failure::usage("the URL names no host"))?;
    let host = HeaderValue::from_str(authority.as_str())
        .map_err(|_| Failure::usage("the URL's host cannot be sent"))?;
    request.headers_mut().entry(header::HOST).or_insert(host);
    request
        .headers_mut()
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!("mayfly/", env!("CARGO_PKG_VERSION"))));
    *request.uri_mut() = uri.path_and_query().map_or_else(
        || Uri::from_static("/"),
        |path| path.as_str().parse().expect("a URL's path is a target"),
    );
    let at = at(&uri);
    if let Plane::Socket(path) = plane {
        return exchange(socket(path).await?, request, &path.display(), head_deadline).await;
    }
    let stream = connect(&uri, plane).await?;
    if is_tls(&uri) {
        exchange(secure(&uri, stream, trust).await?, request, &at, head_deadline).await
    } else {
        exchange(stream, request, &at, head_deadline).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
    at: &dyn Display,
    head_deadline: Duration,
) -> Result<Response<Incoming>, Failure> {
    let lost =
        |error: &hyper::Error| Failure::failed(format!("talking to {at}: {}", causes(error)));
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
    // Owned by the runtime: it ends with the response's body, or when the command ends. `sender`
    // and the body report its errors.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    timeout(head_deadline, sender.send_request(request))
        .await
        .map_err(|_| {
            let seconds = head_deadline.as_secs();
            Failure::failed(format!("{at} did not answer within {seconds} seconds"))
        })?
        .map_err(|error| lost(&error))
}

async fn connect(uri: &Uri, plane: Plane<'_>) -> Result<TcpStream, Failure> {
    let port = uri.port_u16().unwrap_or(if is_tls(uri) { 443 } else { 80 });
    let failed = |error| unreachable(&at(uri), plane, &error);
    // The addresses that are checked are those that are connected to.
    let found = in_time(lookup_host((host(uri), port))).await.map_err(failed)?;
    let addresses: Vec<SocketAddr> = found.collect();
    let is_near = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    if plane == (Plane::Control { insecure: false }) && !is_tls(uri) && !is_near {
        let text = format!("the token is not sent to {}: others can read it on its way", at(uri));
        return Err(Failure::usage(text).note(
            "hint: use an https:// URL, or a tunnel to an address of this machine; or, if the \
             network itself is trusted, --insecure",
        ));
    }
    in_time(TcpStream::connect(addresses.as_slice())).await.map_err(failed)
}

fn unreachable(at: &str, plane: Plane<'_>, error: &io::Error) -> Failure {
    let what = if plane == Plane::Data { "data" } else { "control" };
    let failure =
        Failure::failed(format!("cannot connect to the gateway's {what} plane at {at}: {error}"));
    match (error.kind(), plane) {
        (io::ErrorKind::ConnectionRefused, Plane::Control { .. }) => failure.note(
            "hint: start it with `mayfly serve`, or set its address with --server URL or \
             MAYFLY_SERVER",
        ),
        (_, Plane::Control { .. }) => {
            failure.note("hint: set its address with --server URL or MAYFLY_SERVER")
        }
        (_, Plane::Data) => {
            failure.note("hint: the gateway's setting public_url has the address for callers")
        }
        (io::ErrorKind::PermissionDenied, Plane::Socket(_)) => failure.note(
            "hint: the socket is for the gateway's own user and root; others need a token \
             (--token-file, MAYFLY_TOKEN_FILE)",
        ),
        (_, Plane::Socket(_)) => failure
            .note("hint: start the gateway with `mayfly serve`")
            .note("hint: name its data directory with MAYFLY_DATA_DIR")
            .note(
                "hint: name a gateway elsewhere with --server URL or MAYFLY_SERVER, and its token \
                 with --token-file or MAYFLY_TOKEN_FILE",
            ),
    }
}

/// Connects to the control plane's socket, if the gateway behind it is this user's or root's.
async fn socket(path: &Path) -> Result<UnixStream, Failure> {
    let at = path.display().to_string();
    let connecting = async {
        let stream = UnixStream::connect(path).await?;
        let (owner, user) = (stream.peer_cred()?.uid(), geteuid().as_raw());
        Ok((owner == user || owner == 0 || user == 0).then_some(stream))
    };
    let stream = in_time(connecting).await;
    let stream = stream.map_err(|error| unreachable(&at, Plane::Socket(path), &error))?;
    stream.ok_or_else(|| Failure::failed(format!("{at} belongs to another user's program")))
}

async fn secure(
    uri: &Uri,
    stream: TcpStream,
    trust: &Trust,
) -> Result<TlsStream<TcpStream>, Failure> {
    in_time(trust.connect(host(uri), stream)?).await.map_err(|error| {
        let failure = Failure::failed(format!("no TLS with {}: {error}", at(uri)));
        match trust {
            Trust::System => failure.note(
                "hint: if this machine does not trust the gateway's certificate authority, name the \
                 authority's certificate with --ca-file FILE or MAYFLY_CA_FILE",
            ),
            Trust::File(file) => {
                failure.note(format!("hint: only the certificate authorities in {} are trusted", file.display()))
            }
        }
    })
}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let outcome = timeout(Duration::from_secs(CONNECT_SECONDS), connecting).await;
    outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn is_tls(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

/// The host without the brackets that an IPv6 address has in a URL.
fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn at(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    format!("{scheme}://{}", uri.authority().map_or("", |authority| authority.as_str()))
}

/// An error with its causes, which hyper's own text leaves out.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Escapes all characters that have a meaning in a path or a query.
pub(crate) fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_and_https_urls_are_taken() {
        assert!(parse_url("https://gateway.example").is_ok());
        assert!(parse_url("http://127.0.0.1:9090/base").is_ok());
        assert!(parse_url("http://[::1]:9090").is_ok());
        for (url, reason) in [
            ("127.0.0.1:9090", "does not begin with http://"),
            ("gateway.example", "does not begin with http://"),
            ("http://", "not a URL"),
            ("ftp://gateway.example", "does not begin with http://"),
        ] {
            let text = parse_url(url).unwrap_err().text();
            assert!(text.contains(reason), "{url}: {text}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_a_path() {
        assert_eq!(escape("greet-2"), "greet-2");
        assert_eq!(escape("../x?y#z ü"), "..%2Fx%3Fy%23z%20%C3%BC");
    }
}
