//! Settings: the only place that reads the file, the environment and the flags.
//!
//! Four layers, each over the one before: the defaults (`sections`), a TOML file, `MAYFLY__*`
//! variables, flags (`layers`, `environment`). A [`Config`] can be trusted: every value was
//! checked against its range (`bounds`), and an unknown key stops the start.
//!
//! `limits.memory_bytes` in the file is `MAYFLY__LIMITS__MEMORY_BYTES` in the environment and
//! `--set limits.memory_bytes=…` on the command line. That holds for every key, because the
//! layers are derived from [`Config::default`].

mod bounds;
mod environment;
mod error;
mod flags;
mod layers;
mod load;
pub(crate) mod nearest;
pub(crate) mod place;
mod root;
mod sections;
mod show;
pub(crate) mod sizes;

pub(crate) use self::layers::LayeredSettings;
pub use self::{
    error::{ConfigError, SettingOrigin},
    flags::Flags,
    root::{CONTROL_SOCKET, Config, Numbers},
    sections::{
        AdmissionSettings, CompileSection, ControlSettings, EdgeSettings, FieldNames, FlowsSection,
        HostRoutes, HttpLimits, IssuerSettings, LingerLimits, ListenerSettings, LogFormat,
        LogsSection, MetricsSection, MinRate, PoolSection, ProxySettings, QueueSection,
        QuotasSection, ServerSection, ShadowSettings, StoresSection, Timeouts, TlsFiles,
        TlsSettings, TrustedProxies, UploadsSection,
    },
};
