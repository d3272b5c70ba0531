//! The sections of the settings, with their defaults. The permitted ranges are in `bounds`.
//!
//! A section is the struct that its user takes: `[guests]` and `[outbound]` are the pool's own
//! types, and `[server]` has a part for each of its users.

pub(crate) mod address;
mod deploys;
mod flows;
mod machine;
mod pool;
mod queue;
mod server;
mod stores;
mod telemetry;

pub use self::{
    deploys::{QuotasSection, UploadsSection},
    flows::FlowsSection,
    pool::{CompileSection, PoolSection},
    queue::QueueSection,
    server::{
        AdmissionSettings, ControlSettings, EdgeSettings, FieldNames, HostRoutes, HttpLimits,
        IssuerSettings, LingerLimits, ListenerSettings, MinRate, ProxySettings, ServerSection,
        ShadowSettings, Timeouts, TlsFiles, TlsSettings, TrustedProxies,
    },
    stores::StoresSection,
    telemetry::{LogFormat, LogsSection, MetricsSection},
};
