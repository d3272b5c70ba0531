//! `wasi:config`, Spin's variables and `wasi:logging`.

use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower};

use super::{functions::CallKind, names};
use crate::{host::Host, metrics::guest_log::LogStream};

/// Why a value of `wasi:config` cannot be read.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum ConfigReadError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    #[expect(dead_code, reason = "the interface has it; values are in memory")]
    Io(String),
}

/// Why a variable cannot be read.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum VariableError {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    #[expect(dead_code, reason = "the interface has it; no other error is known")]
    Other(String),
}

/// How important a line of a log is.
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "guests make them")]
enum GuestLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl GuestLevel {
    fn word(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error | Self::Critical => "error",
        }
    }
}

/// Adds `wasi:config` and `wasi:logging`.
pub(super) fn add(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for name in names::CONFIG {
        add_config(&mut linker.instance(name)?)?;
    }
    for name in names::LOGGING {
        let mut logging = linker.instance(name)?;
        logging.func_wrap(
            "log",
            |store, (level, context, message): (GuestLevel, String, String)| {
                let line = match context.as_str() {
                    "" => format!("[{}] {message}\n", level.word()),
                    context => format!("[{}] {context}: {message}\n", level.word()),
                };
                // Where the guest's standard error goes, under the same limits.
                store.data().log().write(LogStream::Stderr, line.as_bytes());
                Ok(())
            },
        )?;
    }
    Ok(())
}

fn add_config(config: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    config.func_wrap("get", |mut store, (name,): (String,)| {
        let value = store.data_mut().capabilities().config_value(&name);
        Ok((value.map_err(ConfigReadError::Upstream),))
    })?;
    config.func_wrap("get-all", |mut store, (): ()| {
        let values = store.data_mut().capabilities().config_values();
        Ok((values.map_err(ConfigReadError::Upstream),))
    })
}

/// Adds one of Spin's interfaces for variables.
pub(super) fn add_variables(
    linker: &mut Linker<Host>,
    name: &str,
    calls: CallKind,
) -> wasmtime::Result<()> {
    let mut variables = linker.instance(name)?;
    match calls {
        CallKind::Blocking => variables.func_wrap("get", |mut store, (name,): (String,)| {
            Ok((variable(store.data_mut(), name),))
        }),
        CallKind::Concurrent => {
            variables.func_wrap_concurrent("get", |store, (name,): (String,)| {
                let value = store.with(|mut access| variable(access.get(), name));
                Box::pin(async move { Ok((value,)) })
            })
        }
    }
}

fn variable(host: &mut Host, name: String) -> Result<String, VariableError> {
    if !is_variable(&name) {
        return Err(VariableError::InvalidName(name));
    }
    match host.capabilities().config_value(&name) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(VariableError::Undefined(name)),
        Err(error) => Err(VariableError::Provider(error)),
    }
}

/// Spin's rule for names: small letters, digits and single underscores between them.
fn is_variable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('_')
        && name.bytes().all(allowed)
}
