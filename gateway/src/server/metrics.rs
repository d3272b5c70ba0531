//! What becomes of connections.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Why a connection was refused or ended, where it was not the client's own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There were as many connections as there may be.
    Connections,
    /// There were as many from its address as there may be.
    Address,
    /// The first request, or the head of one, took too long.
    Head,
    /// There was no request for too long.
    Idle,
    /// It took nothing of an answer for too long.
    Stalled,
    /// It sent too many HTTP/2 frames that only ask for work.
    ControlFrames,
    /// It sent what is no request, or could be read in two ways.
    Malformed,
    /// There were as many TLS handshakes as there may be.
    TlsHandshakes,
    /// The TLS handshake failed.
    TlsFailed,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// A proxy did not say whom it speaks for.
    ProxyHeader,
    /// It was still at work at the end of the drain.
    Drain,
}

impl End {
    const ALL: [Self; 12] = [
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
            Self::Drain => "drain",
        }
    }
}

/// What is counted about the connections of both listeners.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionMetrics {
    open: IntGaugeVec,
    resting: IntGaugeVec,
    ended: IntCounterVec,
    not_accepted: IntCounterVec,
}

/// The same for one listener.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    open: IntGauge,
    resting: IntGauge,
    ended: [IntCounter; End::ALL.len()],
    not_accepted: IntCounter,
}

impl ConnectionMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let open = IntGaugeVec::new(
            Opts::new("mayfly_connections", "Connections that are open"),
            &["plane"],
        )?;
        let resting = IntGaugeVec::new(
            Opts::new(
                "mayfly_connections_resting",
                "Open connections that have given back what they need only while there are requests",
            ),
            &["plane"],
        )?;
        let ended = IntCounterVec::new(
            Opts::new(
                "mayfly_connections_ended_total",
                "Connections that the gateway refused or ended, by reason",
            ),
            &["plane", "reason"],
        )?;
        let not_accepted = IntCounterVec::new(
            Opts::new(
                "mayfly_accept_failures_total",
                "Attempts to accept a connection that failed, as they do without descriptors",
            ),
            &["plane"],
        )?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(resting.clone()))?;
        registry.register(Box::new(ended.clone()))?;
        registry.register(Box::new(not_accepted.clone()))?;
        Ok(Self { open, resting, ended, not_accepted })
    }

    pub(crate) fn of(&self, plane: &str) -> Counted {
        Counted {
            open: self.open.with_label_values(&[plane]),
            resting: self.resting.with_label_values(&[plane]),
            ended: End::ALL.map(|end| self.ended.with_label_values(&[plane, end.as_str()])),
            not_accepted: self.not_accepted.with_label_values(&[plane]),
        }
    }
}

impl Counted {
    pub(crate) fn ended(&self, end: End) {
        self.ended[end as usize].inc();
    }

    pub(crate) fn not_accepted(&self) {
        self.not_accepted.inc();
    }

    pub(crate) fn open(&self) -> &IntGauge {
        &self.open
    }

    /// Counts a connection among those that rest until this is dropped.
    pub(crate) fn resting(&self) -> Resting<'_> {
        self.resting.inc();
        Resting(&self.resting)
    }
}

pub(crate) struct Resting<'a>(&'a IntGauge);

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        for (place, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, place, "{end:?}");
        }
    }
}
