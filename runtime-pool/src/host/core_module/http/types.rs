//! How the types of `wasi:http/types` lie in memory.

use wasmtime_wasi_http::p2::bindings::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, HeaderError, Method, Scheme,
    TlsAlertReceivedPayload,
};

use crate::host::core_module::abi::{record, variant};

variant!(Method {
    0 Get,
    1 Head,
    2 Post,
    3 Put,
    4 Delete,
    5 Connect,
    6 Options,
    7 Trace,
    8 Patch,
    9 Other(name: String),
});

variant!(Scheme {
    0 Http,
    1 Https,
    2 Other(name: String),
});

variant!(HeaderError {
    0 InvalidSyntax,
    1 Forbidden,
    2 Immutable,
});

record!(DnsErrorPayload { rcode: Option<String>, info_code: Option<u16> });

record!(TlsAlertReceivedPayload { alert_id: Option<u8>, alert_message: Option<String> });

record!(FieldSizePayload { field_name: Option<String>, field_size: Option<u32> });

variant!(ErrorCode {
    0 DnsTimeout,
    1 DnsError(detail: DnsErrorPayload),
    2 DestinationNotFound,
    3 DestinationUnavailable,
    4 DestinationIpProhibited,
    5 DestinationIpUnroutable,
    6 ConnectionRefused,
    7 ConnectionTerminated,
    8 ConnectionTimeout,
    9 ConnectionReadTimeout,
    10 ConnectionWriteTimeout,
    11 ConnectionLimitReached,
    12 TlsProtocolError,
    13 TlsCertificateError,
    14 TlsAlertReceived(detail: TlsAlertReceivedPayload),
    15 HttpRequestDenied,
    16 HttpRequestLengthRequired,
    17 HttpRequestBodySize(bytes: Option<u64>),
    18 HttpRequestMethodInvalid,
    19 HttpRequestUriInvalid,
    20 HttpRequestUriTooLong,
    21 HttpRequestHeaderSectionSize(bytes: Option<u32>),
    22 HttpRequestHeaderSize(field: Option<FieldSizePayload>),
    23 HttpRequestTrailerSectionSize(bytes: Option<u32>),
    24 HttpRequestTrailerSize(field: FieldSizePayload),
    25 HttpResponseIncomplete,
    26 HttpResponseHeaderSectionSize(bytes: Option<u32>),
    27 HttpResponseHeaderSize(field: FieldSizePayload),
    28 HttpResponseBodySize(bytes: Option<u64>),
    29 HttpResponseTrailerSectionSize(bytes: Option<u32>),
    30 HttpResponseTrailerSize(field: FieldSizePayload),
    31 HttpResponseTransferCoding(coding: Option<String>),
    32 HttpResponseContentCoding(coding: Option<String>),
    33 HttpResponseTimeout,
    34 HttpUpgradeFailed,
    35 HttpProtocolError,
    36 LoopDetected,
    37 ConfigurationError,
    38 InternalError(text: Option<String>),
});
