//! The settings of a listener, except for its address.

use std::sync::{Arc, atomic::AtomicBool};

use crate::{
    config::{ListenerSettings, TrustedProxies},
    server::{metrics::ConnectionMetrics, tls::Tls},
};

/// How one listener treats its connections.
pub(crate) struct ListenerConfig {
    /// The value of the label `plane` in metrics.
    pub(crate) plane: &'static str,
    pub(crate) settings: ListenerSettings,
    /// How many connections may be open at once.
    pub(crate) connections: usize,
    /// Whether trusted proxies begin their connections with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    pub(crate) trusted: TrustedProxies,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) metrics: ConnectionMetrics,
    /// Set while the gateway asks clients to use another one.
    pub(crate) draining: Arc<AtomicBool>,
}
