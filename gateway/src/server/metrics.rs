//! Metrics of connections.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Why the gateway refused or closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Too many connections were open.
    Connections,
    /// Too many connections from its address were open: it was the newest, or made room for that.
    Address,
    /// The first request, or the head of a later one, took too long.
    Head,
    /// There was no request for too long.
    Idle,
    /// The client read nothing of a response for too long.
    Stalled,
    /// The client sent too many HTTP/2 control frames.
    ControlFrames,
    /// The client sent bytes that are no request, or that could be read in two ways.
    Malformed,
    /// The TLS handshake got no place among those in progress, or had to leave it to another one.
    TlsHandshakes,
    /// The TLS handshake failed.
    TlsFailed,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// A trusted proxy sent no valid header of the PROXY protocol.
    ProxyHeader,
    /// The user may not use the Unix socket.
    User,
    /// It was still open at the end of the drain.
    Drain,
}

impl CloseReason {
    const ALL: [Self; 13] = [
        Self::Connections,
        Self::Address,
        Self::Head,
        Self::Idle,
        Self::Stalled,
        Self::ControlFrames,
        Self::Malformed,
        Self::TlsHandshakes,
        Self::TlsFailed,
        Self::TlsTimeout,
        Self::ProxyHeader,
        Self::User,
        Self::Drain,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "connections-per-address",
            Self::Head => "header-timeout",
            Self::Idle => "idle-timeout",
            Self::Stalled => "stall-timeout",
            Self::ControlFrames => "control-frames",
            Self::Malformed => "malformed-request",
            Self::TlsHandshakes => "tls-handshakes",
            Self::TlsFailed => "tls-failed",
            Self::TlsTimeout => "tls-timeout",
            Self::ProxyHeader => "proxy-header",
            Self::User => "user",
            Self::Drain => "drain",
        }
    }
}

/// Metrics of the connections of all listeners.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionMetrics {
    open: IntGaugeVec,
    idle: IntGaugeVec,
    closed: IntCounterVec,
    accept_failures: IntCounterVec,
}

/// Metrics of the connections of one listener.
#[derive(Clone, Debug)]
pub(crate) struct ListenerMetrics {
    open: IntGauge,
    idle: IntGauge,
    closed: [IntCounter; CloseReason::ALL.len()],
    accept_failures: IntCounter,
}

impl ConnectionMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let open =
            IntGaugeVec::new(Opts::new("mayfly_connections", "Open connections"), &["plane"])?;
        let idle = IntGaugeVec::new(
            Opts::new(
                "mayfly_connections_idle",
                "Open connections without a request that have released their buffers",
            ),
            &["plane"],
        )?;
        let closed = IntCounterVec::new(
            Opts::new(
                "mayfly_connections_ended_total",
                "Connections that the gateway refused or closed, by reason",
            ),
            &["plane", "reason"],
        )?;
        let accept_failures = IntCounterVec::new(
            Opts::new(
                "mayfly_accept_failures_total",
                "Failed attempts to accept a connection, for example without file descriptors",
            ),
            &["plane"],
        )?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(idle.clone()))?;
        registry.register(Box::new(closed.clone()))?;
        registry.register(Box::new(accept_failures.clone()))?;
        Ok(Self { open, idle, closed, accept_failures })
    }

    pub(crate) fn of(&self, plane: &str) -> ListenerMetrics {
        let closed = |reason: CloseReason| self.closed.with_label_values(&[plane, reason.as_str()]);
        ListenerMetrics {
            open: self.open.with_label_values(&[plane]),
            idle: self.idle.with_label_values(&[plane]),
            closed: CloseReason::ALL.map(closed),
            accept_failures: self.accept_failures.with_label_values(&[plane]),
        }
    }
}

impl ListenerMetrics {
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closed[reason as usize].inc();
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    pub(crate) fn open(&self) -> &IntGauge {
        &self.open
    }

    /// Counts a connection as idle until the guard is dropped.
    pub(crate) fn idle(&self) -> IdleGuard<'_> {
        self.idle.inc();
        IdleGuard(&self.idle)
    }
}

pub(crate) struct IdleGuard<'a>(&'a IntGauge);

impl Drop for IdleGuard<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }
}
