//! How does a connection become requests?
//!
//! `listener` accepts connections, `connection` drives each from the accept to its end, `h1` and
//! `h2` inspect the bytes before the protocol library reads them. Both planes use this room.

mod activity;
mod connection;
#[doc(hidden)]
pub mod h1;
pub(crate) mod h2;
mod linger;
mod listener;
mod listener_config;
mod listener_control;
mod metrics;
mod peer;
mod permits;
mod proxy_header;
mod tls;
mod tracking;

pub(crate) use crate::server::{
    h1::framing::RequestRejection,
    listener::{Server, local::LocalSocket},
    listener_config::ListenerConfig,
    listener_control::ListenerControl,
    metrics::ConnectionMetrics,
    peer::{Peer, client_of},
    tls::{
        CERTIFICATE_CHECK_INTERVAL, ExposedKey, Tls,
        hosts::{CertificateId, HostCertificate, HostCertificates, HostTable},
    },
    tracking::IncomingBody,
};
