//! Settings: the only place that reads the file, the environment and the flags.
//!
//! Four layers, each over the one before: the defaults (`sections`), a TOML file, `MAYFLY_*`
//! variables, flags (`layers`). Whoever holds a [`Config`] may trust it: every value was
//! checked against its range (`bounds`), and a key that nobody knows was refused.
//!
//! `limits.memory_bytes` in the file is `MAYFLY_LIMITS_MEMORY_BYTES` in the environment and
//! `--set limits.memory_bytes=…` on the command line. That holds for every key, because the
//! layers are derived from [`Config::default`].

mod bounds;
mod error;
mod layers;
pub(crate) mod nearest;
mod sections;
mod show;
pub(crate) mod sizes;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub(crate) use self::layers::Settings;
pub use self::{
    error::{ConfigError, Origin},
    sections::{
        CompileSection, FunctionLimits, GuestsSection, LogFormat, LogsSection, MetricsSection,
        OutboundSection, PoolSection, QuotasSection, ServerSection, UploadsSection,
    },
};

/// Settings that are numbers, by section and key.
pub type Numbers = BTreeMap<String, BTreeMap<String, u64>>;

/// Every setting of a gateway, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the database, the artifacts, the native code and the first token are kept.
    pub data_dir: PathBuf,
    /// Address of the data plane: invocations.
    #[serde(deserialize_with = "sections::deserialize_address")]
    pub listen: SocketAddr,
    /// Address of the control plane: everything else.
    #[serde(deserialize_with = "sections::deserialize_address")]
    pub admin_listen: SocketAddr,
    /// Base of the URLs in answers; empty stands for `http://<listen>`. See [`Self::public_base`].
    pub public_url: String,
    /// Permits a control plane without TLS on an address that other machines can reach.
    pub insecure_admin: bool,
    /// What holds for a function whose owner asked for nothing.
    pub limits: FunctionLimits,
    /// The most that an owner may ask for.
    pub ceilings: FunctionLimits,
    /// What holds for the guests of all functions alike.
    pub guests: GuestsSection,
    /// Functions and instances in memory.
    pub pool: PoolSection,
    /// The compiler and its child process.
    pub compile: CompileSection,
    /// What may be deployed.
    pub uploads: UploadsSection,
    /// How much may be deployed on this node.
    pub quotas: QuotasSection,
    /// Both listeners.
    pub server: ServerSection,
    /// Requests that guests make.
    pub outbound: OutboundSection,
    /// Our own log, and what is kept of the guests'.
    pub logs: LogsSection,
    /// The metrics.
    pub metrics: MetricsSection,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080),
            admin_listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9090),
            public_url: String::new(),
            insecure_admin: false,
            limits: FunctionLimits::defaults(),
            ceilings: FunctionLimits::ceilings(),
            guests: GuestsSection::default(),
            pool: PoolSection::default(),
            compile: CompileSection::default(),
            uploads: UploadsSection::default(),
            quotas: QuotasSection::default(),
            server: ServerSection::default(),
            outbound: OutboundSection::default(),
            logs: LogsSection::default(),
            metrics: MetricsSection::default(),
        }
    }
}

/// The settings that have a flag of their own, and `--set` for all the others.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Where database, artifacts, native code and the first token are kept
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address of the data plane, which serves invocations
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address of the control plane, which serves the API, metrics and probes
    #[arg(long, value_name = "HOST:PORT")]
    pub admin_listen: Option<String>,
    /// Base of the function URLs in answers [default: http:// and the address of --listen]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Permit a control plane without TLS on an address that other machines can reach
    #[arg(long)]
    pub insecure_admin: bool,
    /// Any setting by its key, e.g. `--set limits.memory_bytes=64MiB`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Config {
    /// Reads all layers and checks the result.
    ///
    /// The environment is passed in ([`Self::environment`] has the real one), so that tests
    /// share no state.
    ///
    /// # Errors
    /// The first thing found wrong, with the place that it came from.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        Settings::read(file, environment, flags)?.into_config()
    }

    /// The variables of this process whose names begin with `MAYFLY_`.
    ///
    /// # Errors
    /// When one of them is not UTF-8.
    pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(layers::PREFIX))
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                // The value stays out of the message: it may be a token.
                Err(_) => Err(ConfigError::Syntax {
                    origin: Origin::Variable { name },
                    reason: "must be UTF-8".to_owned(),
                }),
            })
            .collect()
    }

    /// The keys of settings that differ from those of `other`.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (Settings::of_config(self), Settings::of_config(other));
        let pairs = ours.iter().zip(theirs.iter());
        let differ = pairs.filter(|((_, ours), (_, theirs))| ours.value != theirs.value);
        differ.map(|((key, _), _)| key.to_owned()).collect()
    }

    /// Every setting that is a number, by section, as it holds: those that stand for something else
    /// are what they stand for.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let mut held = self.clone();
        held.pool.memory_bytes = self.pool.memory_budget();
        held.pool.loads = self.pool.load_count();
        held.compile.jobs = self.compile.job_count();
        held.server.workers = self.server.worker_count();
        held.server.connections_per_address = self.server.connections_per_address_max();
        let sections = Table::try_from(&held).unwrap_or_default();
        let numbers = |section: &Table| -> BTreeMap<String, u64> {
            let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
            section.iter().filter_map(|(key, value)| Some((key.clone(), number(value)?))).collect()
        };
        sections
            .iter()
            .filter_map(|(name, section)| Some((name.clone(), numbers(section.as_table()?))))
            .filter(|(_, numbers)| !numbers.is_empty())
            .collect()
    }

    /// The base of the URLs in answers, without a slash at its end.
    ///
    /// `bound` is the address that the data plane really got: it differs from
    /// [`Self::listen`] when that has port 0. An address that means "all" is no use to a
    /// caller, so this machine's own takes its place.
    #[must_use]
    pub fn public_base(&self, bound: SocketAddr) -> String {
        if !self.public_url.is_empty() {
            return self.public_url.trim_end_matches('/').to_owned();
        }
        let host: IpAddr = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        let scheme = if self.server.tls_cert.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}", SocketAddr::new(host, bound.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)], flags: &Flags) -> Result<Config, ConfigError> {
        let pairs = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(None, pairs, flags)
    }

    #[test]
    fn without_any_layer_the_defaults_hold() {
        assert_eq!(load(&[], &Flags::default()).unwrap(), Config::default());
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mayfly.toml");
        std::fs::write(
            &file,
            "data_dir = \"file\"\nlisten = \"127.0.0.1:1\"\n[limits]\ncpu_ms = 11\nqueue = 12\n",
        )
        .unwrap();
        let environment = [("MAYFLY_LISTEN", "127.0.0.1:2"), ("MAYFLY_LIMITS_CPU_MS", "22")];
        let flags = Flags {
            listen: Some("127.0.0.1:3".to_owned()),
            set: vec!["limits.timeout_ms=33".to_owned()],
            ..Flags::default()
        };
        let pairs = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));

        let config = Config::load(Some(&file), pairs, &flags).unwrap();

        assert_eq!(config.data_dir, PathBuf::from("file"));
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.limits.queue, 12);
        assert_eq!(config.limits.cpu_ms, 22);
        assert_eq!(config.limits.timeout_ms, 33);
        assert_eq!(config.limits.concurrency, FunctionLimits::defaults().concurrency);
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let path = Path::new("/nowhere/mayfly.toml");
        let error = Config::load(Some(path), std::iter::empty(), &Flags::default()).unwrap_err();
        assert_eq!(error.to_string(), "reading /nowhere/mayfly.toml");
    }

    #[test]
    fn the_numbers_are_all_that_have_a_range_as_they_hold() {
        let config = Config::default();
        let numbers = config.numbers();
        let shown: Vec<String> = numbers
            .iter()
            .flat_map(|(section, keys)| keys.keys().map(move |key| format!("{section}.{key}")))
            .collect();
        let settings = Settings::defaults();
        let integers = settings.iter().filter(|(_, setting)| setting.value.is_integer());
        assert_eq!(shown, integers.map(|(key, _)| key.to_owned()).collect::<Vec<_>>());
        assert_eq!(numbers["limits"]["cpu_ms"], 1_000);
        assert_eq!(numbers["pool"]["memory_bytes"], config.pool.memory_budget());
    }

    #[test]
    fn localhost_is_an_address() {
        let config = load(&[("MAYFLY_LISTEN", "localhost:81")], &Flags::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:81");
    }

    #[test]
    fn the_public_base_is_one_that_a_caller_can_reach() {
        let mut config = Config::default();
        let base = |config: &Config, bound: &str| config.public_base(bound.parse().unwrap());
        assert_eq!(base(&config, "127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(base(&config, "0.0.0.0:81"), "http://127.0.0.1:81");
        assert_eq!(base(&config, "[::]:81"), "http://[::1]:81");
        config.public_url = "https://functions.example/".to_owned();
        assert_eq!(base(&config, "0.0.0.0:81"), "https://functions.example");
    }
}
