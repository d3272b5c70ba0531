//! Why a guest's request failed: as an error for the guest, as text for the function's owner, and
//! as a label for metrics.

use std::{io, net::IpAddr, time::Duration};

use http::StatusCode;
use wasmtime_wasi_http::Error;

use crate::error::Limit;

/// Why a request failed. The text is for the function's log.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutboundFailure {
    #[error("the address is not one of an http or https server")]
    Address,
    #[error("the method CONNECT is not supported")]
    Method,
    #[error("the function's setting outbound does not allow this request")]
    NotGranted,
    #[error(
        "an invocation may make at most {0} requests (the operator's setting \
         outbound.per_invocation)"
    )]
    Requests(u32),
    #[error("the address {0} is not public; the operator may permit it with outbound.permit")]
    NotPublic(IpAddr),
    #[error("the address {0} is denied by the operator's setting outbound.deny")]
    Denied(IpAddr),
    #[error(
        "{0} is this gateway itself; the operator may open its data plane to functions with \
         outbound.allow_data_plane"
    )]
    Gateway(IpAddr),
    #[error(
        "a function is called at http://NAME.mayfly.internal, without https and without a port"
    )]
    FunctionAddress,
    #[error("the gateway is stopping, and calls no more functions")]
    NoFunctions,
    #[error("the answer of the function ended early: {0}")]
    FunctionBody(String),
    #[error(
        "the secret {0:?}, which the setting credentials names, does not exist or is not valid in \
         a header"
    )]
    NoSecret(String),
    #[error(
        "the secret {0:?} may not be sent to this host: it was stored with a list of hosts, and \
         goes over plain http only to one that is written with http://"
    )]
    SecretHost(String),
    #[error("the secret {0:?} may not be used by this function; it was stored with a list of them")]
    SecretFunction(String),
    #[error("the name cannot be resolved: {0}")]
    Name(String),
    #[error("resolving the name took longer than {} ms (outbound.connect_ms)", .0.as_millis())]
    NameTime(Duration),
    #[error("connecting: {0}")]
    Connect(io::Error),
    #[error("connecting took longer than {} ms (outbound.connect_ms)", .0.as_millis())]
    ConnectTime(Duration),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("the TLS handshake took longer than {} ms (outbound.tls_ms)", .0.as_millis())]
    TlsTime(Duration),
    #[error("no response within {} ms (outbound.first_byte_ms)", .0.as_millis())]
    FirstByteTime(Duration),
    #[error("the response stalled for {} ms (outbound.between_bytes_ms)", .0.as_millis())]
    BetweenTime(Duration),
    #[error("the head of the response is too large (outbound.header_bytes, outbound.headers)")]
    ResponseHead,
    #[error("the body of the response is larger than {0} bytes (outbound.response_bytes)")]
    ResponseBytes(u64),
    #[error("the server answered {0}, which no request had asked for")]
    Upgrade(StatusCode),
    #[error("the response is not valid HTTP: {0}")]
    Protocol(hyper::Error),
    #[error("the server closed the connection before its response was complete")]
    Broken,
    #[error("the body of the request was aborted")]
    RequestBody,
    #[error("the body of the request is not as long as its content-length says")]
    RequestLength(Option<u64>),
}

impl OutboundFailure {
    /// The error for the guest.
    pub(super) fn code(&self) -> Error {
        match self {
            Self::Address | Self::FunctionAddress => Error::HttpRequestUriInvalid,
            Self::NoFunctions => Error::DestinationUnavailable,
            Self::Method => Error::HttpRequestMethodInvalid,
            Self::NotGranted => Error::HttpRequestDenied,
            Self::Requests(_) => Error::ConnectionLimitReached,
            Self::NotPublic(_) | Self::Denied(_) | Self::Gateway(_) => {
                Error::DestinationIpProhibited
            }
            Self::NoSecret(_) => Error::ConfigurationError,
            Self::SecretHost(_) | Self::SecretFunction(_) => Error::HttpRequestDenied,
            Self::Name(reason) => Error::DnsError { rcode: Some(reason.clone()), info_code: None },
            Self::NameTime(_) => Error::DnsTimeout,
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    Error::DestinationIpUnroutable
                }
                _ => Error::DestinationUnavailable,
            },
            Self::ConnectTime(_) | Self::TlsTime(_) => Error::ConnectionTimeout,
            Self::Tls(error) => tls_code(error),
            Self::FirstByteTime(_) | Self::BetweenTime(_) => Error::ConnectionReadTimeout,
            Self::ResponseHead => Error::HttpResponseHeaderSectionSize(None),
            Self::ResponseBytes(max) => Error::HttpResponseBodySize(Some(*max)),
            Self::Upgrade(StatusCode::SWITCHING_PROTOCOLS) => Error::HttpUpgradeFailed,
            Self::Upgrade(_) | Self::Protocol(_) => Error::HttpProtocolError,
            Self::Broken | Self::FunctionBody(_) => Error::HttpResponseIncomplete,
            Self::RequestBody => Error::ConnectionTerminated,
            Self::RequestLength(sent) => Error::HttpRequestBodySize(*sent),
        }
    }

    /// Its label in metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Address | Self::Method | Self::FunctionAddress => "invalid",
            Self::NotGranted => "not-granted",
            Self::Requests(_) => "too-many",
            Self::NotPublic(_) => "not-public",
            Self::Denied(_) => "denied",
            Self::Gateway(_) => "gateway",
            Self::NoSecret(_) | Self::SecretHost(_) | Self::SecretFunction(_) => "secret",
            Self::Name(_) | Self::NameTime(_) => "name",
            Self::Connect(_) | Self::NoFunctions => "connect",
            Self::ConnectTime(_) => "connect-timeout",
            Self::Tls(_) => "tls",
            Self::TlsTime(_) => "tls-timeout",
            Self::FirstByteTime(_) => "first-byte-timeout",
            Self::BetweenTime(_) => "between-bytes-timeout",
            Self::ResponseHead => "response-head",
            Self::ResponseBytes(_) => "response-bytes",
            Self::Upgrade(_) | Self::Protocol(_) => "protocol",
            Self::Broken | Self::FunctionBody(_) | Self::RequestBody => "broken",
            Self::RequestLength(_) => "invalid",
        }
    }

    /// The limit that was hit, if a limit is the cause.
    pub(super) fn limit(&self) -> Option<Limit> {
        match self {
            Self::Requests(_) => Some(Limit::OutboundRequests),
            Self::NameTime(_)
            | Self::ConnectTime(_)
            | Self::TlsTime(_)
            | Self::FirstByteTime(_)
            | Self::BetweenTime(_) => Some(Limit::OutboundTime),
            Self::ResponseHead => Some(Limit::OutboundResponseHead),
            Self::ResponseBytes(_) => Some(Limit::OutboundResponseBytes),
            Self::Address
            | Self::Method
            | Self::NotGranted
            | Self::NotPublic(_)
            | Self::Denied(_)
            | Self::Gateway(_)
            | Self::FunctionAddress
            | Self::NoFunctions
            | Self::FunctionBody(_)
            | Self::NoSecret(_)
            | Self::SecretHost(_)
            | Self::SecretFunction(_)
            | Self::Name(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Upgrade(_)
            | Self::Protocol(_)
            | Self::Broken
            | Self::RequestBody
            | Self::RequestLength(_) => None,
        }
    }
}

impl From<hyper::Error> for OutboundFailure {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::ResponseHead
        } else if error.is_body_write_aborted() {
            Self::RequestLength(None)
        } else if error.is_user() {
            match cause::<Error>(&error) {
                Some(Error::HttpRequestBodySize(sent)) => Self::RequestLength(*sent),
                _ => Self::RequestBody,
            }
        } else if error.is_parse() || is_invalid(&error) {
            Self::Protocol(error)
        } else {
            // The connection was closed or reset, so the rest of the response is missing.
            Self::Broken
        }
    }
}

/// The body of a function's answer.
impl From<Box<dyn std::error::Error + Send + Sync>> for OutboundFailure {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::FunctionBody(error.to_string())
    }
}

/// Whether the chunks of a body are malformed.
fn is_invalid(error: &hyper::Error) -> bool {
    cause::<io::Error>(error).is_some_and(|cause| {
        matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    })
}

fn cause<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    std::error::Error::source(error)?.downcast_ref()
}

fn tls_code(error: &io::Error) -> Error {
    use tokio_rustls::rustls;
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            let name = format!("{alert:?}");
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(name) }
        }
        _ => Error::TlsProtocolError,
    }
}
