//! The log of the process.
//!
//! No thread that serves requests writes to standard error: its reader may stall. Lines go through
//! a bounded [`LineBuffer`].

mod line_buffer;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fs::File,
    io::{IsTerminal as _, stderr},
    os::fd::AsFd as _,
    panic,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use prometheus::{IntCounter, Registry};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry as Spans, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{LogFormat, LogsSection},
    telemetry::log::line_buffer::LineBuffer,
};

/// The crates that a level without a target is for.
const OURS: [&str; 4] = ["gateway", "mayfly", "runtime_pool", "store"];
/// Guests and strangers can make libraries warn as often as they like.
const LIBRARIES: LevelFilter = LevelFilter::ERROR;
/// The database library warns of slow statements, which no guest or stranger writes.
const DATABASE: (&str, LevelFilter) = ("sqlx", LevelFilter::WARN);
/// How long the exit waits for the reader of the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Changes the level of the log while the process runs.
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Spans>);

/// Waits for the last lines when it is dropped, for a bounded time.
pub(crate) struct FlushAtExit(Arc<LineBuffer>);

impl LogLevel {
    pub(crate) fn set(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

impl Drop for FlushAtExit {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Writes events of the configured level and above to standard error, as text or as JSON, and
/// panics among them. Its second part must live until the process ends.
pub(crate) fn start(
    config: &LogsSection,
    registry: &Registry,
) -> anyhow::Result<(LogLevel, FlushAtExit)> {
    let dropped = IntCounter::new(
        "mayfly_gateway_log_lines_dropped_total",
        "Lines of the gateway's own log that were dropped because their reader was too slow",
    )?;
    registry.register(Box::new(dropped.clone()))?;
    let lines = Arc::new(LineBuffer::new(config.buffer_bytes, dropped));
    let (filter, level) = reload::Layer::new(filter(&config.level)?);
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !stderr().is_terminal(),
    };
    let format = fmt::layer().with_writer(Arc::clone(&lines));
    let format = if json { format.json().boxed() } else { format.boxed() };
    let started = tracing_subscriber::registry().with(filter).with(format).try_init();
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))?;
    spawn_writer(Arc::clone(&lines)).context("starting the log")?;
    panic::set_hook(Box::new(log_panic));
    Ok((LogLevel(level), FlushAtExit(lines)))
}

/// Starts the thread that writes. It ends with the process: if the reader has stalled, it cannot
/// end earlier.
fn spawn_writer(lines: Arc<LineBuffer>) -> std::io::Result<()> {
    // Not through `stderr()`: its lock would be held during each write, and threads that print a
    // last message would wait for it.
    let out = File::from(stderr().as_fd().try_clone_to_owned()?);
    let report = |lines| {
        tracing::warn!(lines, "lines of this log were dropped: its reader was too slow");
    };
    thread::Builder::new()
        .name("mayfly-log".to_owned())
        .spawn(move || lines.write_to(out, report))?;
    Ok(())
}

/// Logs a panic. The standard library's own hook would wait for the reader of standard error.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(tracing::field::display);
    let current = thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    let backtrace = matches!(backtrace.status(), BacktraceStatus::Captured)
        .then(|| tracing::field::display(backtrace));
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    tracing::error!(message, thread, place, backtrace, "panicked");
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(directives(level)).context("the setting logs.level")
}

/// The directives of a filter that lets our own events through at the level that is set, and those
/// of libraries only as errors. A library is heard at another level if the setting names it.
fn directives(level: &str) -> String {
    let mut directives = Vec::new();
    for given in level.split(',').map(str::trim) {
        let Ok(bare) = given.parse::<LevelFilter>() else {
            directives.push(given.to_owned());
            continue;
        };
        directives.push(bare.min(LIBRARIES).to_string());
        directives.push(format!("{}={}", DATABASE.0, bare.min(DATABASE.1)));
        directives.extend(OURS.iter().map(|target| format!("{target}={bare}")));
    }
    directives.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case O11.
    #[test]
    fn a_level_without_a_target_does_not_make_libraries_speak() {
        let sqlx = "sqlx=warn,gateway=trace,mayfly=trace,runtime_pool=trace,store=trace";
        assert_eq!(directives("trace"), format!("error,{sqlx}"));
        assert_eq!(
            directives("WARN, gateway=debug,hyper=info"),
            "error,sqlx=warn,gateway=warn,mayfly=warn,runtime_pool=warn,store=warn,gateway=debug,\
             hyper=info"
        );
        assert_eq!(
            directives("off"),
            "off,sqlx=off,gateway=off,mayfly=off,runtime_pool=off,store=off"
        );
        assert_eq!(directives("gateway=debug"), "gateway=debug");
    }

    #[test]
    fn the_last_directive_for_a_target_counts() {
        let filter = filter("info,gateway=debug").unwrap().to_string();
        assert!(filter.contains("gateway=debug") && !filter.contains("gateway=info"), "{filter}");
    }
}
