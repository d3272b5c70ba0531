//! The permitted range of every setting, and the checks that involve two of them.

use gateway_api::LIMITS;
use runtime_pool::{AddressRange, NameSource};
use toml::Value;

use super::{
    ConfigError, FieldNames, LayeredSettings, SettingOrigin, TrustedProxies,
    layers::is_size,
    sections::address::parse_address,
    sizes::{self, GIB, KIB, MIB, TIB},
};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The ranges of all integers besides those of `[limits]` and `[ceilings]`, which are in [`LIMITS`].
const OTHERS: &[(&str, u64, u64)] = &[
    ("guests.stack_bytes", 64 * KIB, 16 * MIB),
    // The tables of Go programs have some thousands of elements.
    ("guests.table_elements", 100, 10_000_000),
    ("guests.host_resources", 16, 1_000_000),
    // The head of a large request must fit.
    ("guests.host_bytes", MIB, GIB),
    ("guests.component_handles", 16, 1_000_000),
    // A chunk of a body must fit: see `chunk`.
    ("guests.hostcall_bytes", 128 * KIB, GIB),
    ("guests.preview1_hostcall_bytes", 128 * KIB, GIB),
    ("guests.field_bytes", KIB, 16 * MIB),
    ("guests.random_bytes", 64, 64 * MIB),
    ("guests.body_chunk_bytes", KIB, 16 * MIB),
    ("guests.buffer_bytes", 0, 16 * GIB),
    ("guests.buffer_memory_bytes", 0, MIB),
    ("guests.merge_bytes", 1, MIB),
    ("guests.empty_writes", 0, 1_000_000_000),
    ("guests.after_response_ms", 0, HOUR_MS),
    ("guests.log_line_bytes", 64, MIB),
    ("guests.log_bytes_per_second", 0, GIB),
    ("guests.store_key_bytes", 64, 8 * KIB),
    ("guests.store_value_bytes", KIB, 25 * MIB),
    ("guests.store_answer_bytes", 64 * KIB, 64 * MIB),
    ("guests.store_operations", 0, 1_000_000_000),
    ("guests.store_operations_per_second", 0, 1_000_000_000),
    ("guests.store_handles", 1, 10_000),
    // With a longer tick, a guest that loops would visibly delay others.
    ("guests.tick_ms", 1, 100),
    ("pool.instances", 1, 100_000),
    ("pool.memory_bytes", 0, 16 * TIB),
    ("pool.keep_bytes", 0, 4 * GIB),
    ("pool.buffer_bytes", 0, 16 * TIB),
    ("pool.idle_memory_ms", 0, DAY_MS),
    ("pool.resident_bytes", 16 * MIB, 16 * TIB),
    ("pool.loads", 0, 1_024),
    ("pool.queue", 0, 1_000_000),
    ("pool.warm_instances", 0, 100_000),
    ("pool.warm_bytes", 0, 16 * TIB),
    ("pool.warm_from_us", 0, 1_000_000),
    ("compile.jobs", 0, 1_024),
    ("compile.queue", 0, 100_000),
    // The compiler does not start with less.
    ("compile.memory_bytes", 256 * MIB, 16 * TIB),
    ("compile.cpu_s", 1, 3_600),
    ("compile.wall_s", 1, 3_600),
    ("compile.output_bytes", MIB, 16 * GIB),
    // Offsets within a module are 32 bits wide.
    ("uploads.artifact_bytes", KIB, 4 * GIB),
    // What a tree has is in memory while its function is.
    ("uploads.files", 1, 1_000_000),
    ("uploads.files_bytes", 0, 16 * GIB),
    ("uploads.file_bytes", 0, 4 * GIB),
    ("uploads.file_path_bytes", 1, 4_000),
    ("uploads.file_depth", 1, 256),
    // The maxima are those of the validator for one module. In a component, all modules count
    // together.
    ("uploads.functions", 1, 1_000_000),
    ("uploads.data_segments", 0, 100_000),
    ("uploads.element_segments", 0, 100_000),
    ("uploads.imports", 0, 1_000_000),
    ("uploads.exports", 1, 1_000_000),
    // For these three, the engines reserve a quarter of the limit for each instance.
    ("uploads.core_instances", 1, 1_000),
    ("uploads.memories", 1, 100),
    ("uploads.tables", 1, 100),
    ("quotas.functions", 0, 10_000_000),
    ("quotas.artifact_bytes", 0, 1_024 * TIB),
    ("quotas.files", 0, 1_000_000_000),
    // The active revision always stays.
    ("quotas.revisions_per_function", 1, 1_000_000),
    ("quotas.channels_per_function", 1, 1_000),
    ("quotas.routes", 0, 1_000_000),
    ("quotas.certificates", 0, 100_000),
    ("quotas.schedules", 0, 1_000_000),
    ("quotas.queues", 0, 100_000),
    ("quotas.flows", 0, 100_000),
    ("quotas.stores", 0, 100_000),
    ("quotas.settings_bytes", KIB, 16 * MIB),
    ("quotas.all_settings_bytes", KIB, TIB),
    ("quotas.code_bytes", 0, 1_024 * TIB),
    ("quotas.compiles_per_minute", 0, 1_000_000),
    ("quotas.changes_per_minute", 0, 1_000_000),
    ("quotas.idempotency_keys", 0, 10_000_000),
    ("queue.workers", 0, 10_000),
    ("queue.body_bytes", 0, 64 * MIB),
    ("queue.messages", 0, 100_000_000),
    ("queue.bytes", 0, 16 * TIB),
    ("queue.kept_bytes", 0, 16 * TIB),
    ("queue.results_ms", 0, 365 * DAY_MS),
    ("queue.dead_ms", 0, 365 * DAY_MS),
    ("queue.retry_ms", 1, HOUR_MS),
    ("queue.retry_max_ms", 1, DAY_MS),
    ("flows.state_bytes", 4 * KIB, 256 * MIB),
    ("flows.runs", 0, 10_000_000),
    ("stores.bytes", 0, 16 * TIB),
    ("stores.max_bytes", 0, 16 * TIB),
    ("stores.keys", 0, 1_000_000_000_000),
    ("stores.max_keys", 0, 1_000_000_000_000),
    ("stores.memory_bytes", 0, 16 * TIB),
    ("server.connections", 1, 1_000_000),
    ("server.connections_per_address", 0, 1_000_000),
    ("server.in_flight", 1, 1_000_000),
    ("server.in_flight_per_address", 0, 1_000_000),
    ("server.max_lag_ms", 0, HOUR_MS),
    ("server.memory_bytes", 0, 16 * TIB),
    ("server.header_timeout_ms", 100, HOUR_MS),
    ("server.idle_timeout_ms", 100, DAY_MS),
    ("server.stall_timeout_ms", 100, DAY_MS),
    ("server.body_rate_bytes", 0, GIB),
    ("server.body_grace_ms", 0, DAY_MS),
    ("server.linger_bytes", 0, 16 * TIB),
    ("server.linger_ms", 0, HOUR_MS),
    ("server.half_close_ms", 0, HOUR_MS),
    ("server.drain_ms", 0, DAY_MS),
    ("server.unready_ms", 0, HOUR_MS),
    // The HTTP/1 parser's smallest buffer.
    ("server.header_bytes", 8 * KIB, 16 * MIB),
    ("server.headers", 8, 10_000),
    // RFC 9110 recommends at least 8000 octets; the operator may choose less. The HTTP library
    // parses at most 65534.
    ("server.uri_bytes", 64, 65_534),
    ("server.auth_failures_per_minute", 0, 1_000_000),
    ("server.hops", 1, 1_000),
    ("server.shadow_calls", 0, 10_000),
    ("server.shadow_body_bytes", 0, 16 * MIB),
    ("server.jwks_refresh_ms", 100, HOUR_MS),
    ("server.jwks_keep_ms", 0, 24 * HOUR_MS),
    ("server.http2_streams", 1, 10_000),
    ("server.http2_header_bytes", KIB, 16 * MIB),
    ("server.control_frames_per_s", 10, 1_000_000),
    ("server.tls_handshake_timeout_ms", 100, HOUR_MS),
    ("server.tls_handshakes", 1, 1_000_000),
    ("server.workers", 0, 1_024),
    ("outbound.connect_ms", 1, HOUR_MS),
    ("outbound.tls_ms", 1, HOUR_MS),
    ("outbound.first_byte_ms", 1, HOUR_MS),
    ("outbound.between_bytes_ms", 1, HOUR_MS),
    ("outbound.response_bytes", 0, 16 * TIB),
    ("outbound.lookups", 2, 10_000),
    ("outbound.lookups_per_function", 1, 10_000),
    ("outbound.per_invocation", 0, 1_000_000),
    ("outbound.at_once", 1, 10_000),
    // The ranges of `server.header_bytes` and `server.headers`.
    ("outbound.header_bytes", 8 * KIB, 16 * MIB),
    ("outbound.headers", 8, 10_000),
    ("outbound.idle_ms", 1, HOUR_MS),
    ("outbound.idle_per_function", 0, 10_000),
    ("outbound.idle_connections", 0, 100_000),
    // One line, such as a panic with its backtrace, must fit.
    ("logs.buffer_bytes", 64 * KIB, GIB),
    ("logs.lines_per_function", 0, 10_000_000),
    ("logs.bytes", MIB, TIB),
    ("logs.free_bytes", 0, TIB),
    // Each label value also costs memory in the system that collects the metrics.
    ("metrics.functions", 0, 100_000),
    ("metrics.channels", 0, 100_000),
    ("metrics.queues", 0, 100_000),
    ("metrics.flows", 0, 100_000),
    ("metrics.stores", 0, 100_000),
];

/// Returns the first error in `settings`.
pub(super) fn check(settings: &LayeredSettings) -> Result<(), ConfigError> {
    for (key, min, max) in bounds() {
        within(settings, &key, min, max)?;
    }
    for row in LIMITS {
        below_ceiling(settings, row.key)?;
    }
    chunk(settings)?;
    addresses(settings)?;
    proxies(settings)?;
    admin_hosts(settings)?;
    tls(settings, "server.tls_cert", "server.tls_key")?;
    tls(settings, "server.admin_tls_cert", "server.admin_tls_key")?;
    if text(settings, "data_dir").is_empty() {
        return Err(wrong(settings, "data_dir", "must be the path of a directory"));
    }
    public_url(settings)?;
    outbound(settings)?;
    logs(settings)
}

fn bounds() -> impl Iterator<Item = (String, u64, u64)> {
    let section = |section: &'static str| {
        LIMITS.iter().map(move |row| (format!("{section}.{}", row.key), row.minimum, row.maximum))
    };
    section("limits")
        .chain(section("ceilings"))
        .chain(OTHERS.iter().map(|(key, min, max)| ((*key).to_owned(), *min, *max)))
}

fn within(settings: &LayeredSettings, key: &str, min: u64, max: u64) -> Result<(), ConfigError> {
    let value = u64::try_from(integer(settings, key)).ok();
    if value.is_some_and(|value| (min..=max).contains(&value)) {
        return Ok(());
    }
    let reason = if is_size(key) {
        let (low, high) = (sizes::format(min), sizes::format(max));
        format!("must be from {min} ({low}) to {max} ({high})")
    } else {
        format!("must be from {min} to {max}")
    };
    Err(wrong(settings, key, reason))
}

fn below_ceiling(settings: &LayeredSettings, name: &str) -> Result<(), ConfigError> {
    let (limit, ceiling) = (format!("limits.{name}"), format!("ceilings.{name}"));
    let most = integer(settings, &ceiling);
    if integer(settings, &limit) <= most {
        return Ok(());
    }
    let origin = &settings.get(&ceiling).origin;
    Err(wrong(settings, &limit, format!("must not exceed {ceiling} = {most} ({origin})")))
}

/// A guest passes a chunk of a body in one host call, together with a few words.
fn chunk(settings: &LayeredSettings) -> Result<(), ConfigError> {
    let (chunk, hostcall) = ("guests.body_chunk_bytes", "guests.hostcall_bytes");
    let most = integer(settings, hostcall) / 2;
    if integer(settings, chunk) <= most {
        return Ok(());
    }
    let origin = &settings.get(hostcall).origin;
    Err(wrong(
        settings,
        chunk,
        format!("must not exceed half of {hostcall} = {} ({origin})", most * 2),
    ))
}

fn addresses(settings: &LayeredSettings) -> Result<(), ConfigError> {
    let address = |key: &str| {
        parse_address(text(settings, key))
            .ok_or_else(|| wrong(settings, key, "expected IP:PORT, [IPv6]:PORT or localhost:PORT"))
    };
    let (data, control) = (address("listen")?, address("admin_listen")?);
    if data == control && data.port() != 0 {
        return Err(wrong(
            settings,
            "admin_listen",
            "must differ from listen: the data plane and the control plane do not share a port",
        ));
    }
    let insecure = settings.get("insecure_admin").value.as_bool().unwrap_or(false);
    let tls = !text(settings, "server.admin_tls_cert").is_empty();
    if !control.ip().is_loopback() && !insecure && !tls {
        return Err(wrong(
            settings,
            "admin_listen",
            "other machines could reach the control plane there, and without TLS its tokens could \
             be read on the way; set server.admin_tls_cert, or keep it on 127.0.0.1 (behind a \
             proxy with TLS or a tunnel), or, if the network itself is trusted, set \
             insecure_admin = true (--insecure-admin, MAYFLY__INSECURE_ADMIN=true)",
        ));
    }
    Ok(())
}

fn proxies(settings: &LayeredSettings) -> Result<(), ConfigError> {
    let entries = settings.get("server.trusted_proxies").value.as_array();
    let entries: Vec<&str> = entries.into_iter().flatten().filter_map(Value::as_str).collect();
    if TrustedProxies::parse(&entries).is_none() {
        let reason = "expected addresses and ranges, such as 10.0.0.0/8 or 2001:db8::1";
        return Err(wrong(settings, "server.trusted_proxies", reason));
    }
    let names = settings.get("server.strip_headers").value.as_array();
    let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    if FieldNames::parse(&names).is_none() {
        return Err(wrong(settings, "server.strip_headers", "expected names of header fields"));
    }
    if !matches!(text(settings, "server.host_routes"), "local" | "all" | "off") {
        return Err(wrong(settings, "server.host_routes", "expected local, all or off"));
    }
    let speaks = settings.get("server.proxy_protocol").value.as_bool().unwrap_or(false);
    if speaks && entries.is_empty() {
        let reason = "needs the proxies' addresses in server.trusted_proxies";
        return Err(wrong(settings, "server.proxy_protocol", reason));
    }
    Ok(())
}

fn admin_hosts(settings: &LayeredSettings) -> Result<(), ConfigError> {
    let hosts = settings.get("server.admin_hosts").value.as_array();
    let is_host = |host: &str| {
        let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !host.is_empty() && host.chars().all(part)
    };
    if hosts.into_iter().flatten().filter_map(Value::as_str).all(is_host) {
        return Ok(());
    }
    let reason = "expected names of hosts without scheme and port, such as gateway.example";
    Err(wrong(settings, "server.admin_hosts", reason))
}

fn tls(settings: &LayeredSettings, cert: &str, key: &str) -> Result<(), ConfigError> {
    match (text(settings, cert).is_empty(), text(settings, key).is_empty()) {
        (false, true) => Err(wrong(settings, key, format!("{cert} needs a key"))),
        (true, false) => Err(wrong(settings, cert, format!("{key} needs a certificate"))),
        (true, true) | (false, false) => Ok(()),
    }
}

fn public_url(settings: &LayeredSettings) -> Result<(), ConfigError> {
    let url = text(settings, "public_url");
    let sound = |url: &str| {
        let uri: http::Uri = url.parse().ok()?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        (scheme && !authority.host().is_empty() && uri.query().is_none() && !url.contains('#'))
            .then_some(())
    };
    if url.is_empty() || sound(url).is_some() {
        return Ok(());
    }
    Err(wrong(
        settings,
        "public_url",
        "expected http://HOST or https://HOST, with or without a path",
    ))
}

fn outbound(settings: &LayeredSettings) -> Result<(), ConfigError> {
    for key in ["outbound.permit", "outbound.deny"] {
        let ranges = settings.get(key).value.as_array().into_iter().flatten();
        for range in ranges.filter_map(Value::as_str) {
            range
                .parse::<AddressRange>()
                .map_err(|error| wrong(settings, key, error.to_string()))?;
        }
    }
    let key = "outbound.resolver";
    let resolver = text(settings, key).parse::<NameSource>();
    resolver.map(drop).map_err(|error| wrong(settings, key, error.to_string()))
}

fn logs(settings: &LayeredSettings) -> Result<(), ConfigError> {
    let level = |text: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| text.eq_ignore_ascii_case(level))
    };
    // The log library would take a misspelt level for the name of a target and log all of it.
    let directive = |text: &str| match text.rsplit_once('=') {
        Some((target, given)) => !target.is_empty() && level(given),
        None => level(text),
    };
    if !text(settings, "logs.level").split(',').all(directive) {
        let reason = "expected off, error, warn, info, debug or trace, also per target: \
                      info,gateway=debug";
        return Err(wrong(settings, "logs.level", reason));
    }
    if !matches!(text(settings, "logs.format"), "auto" | "text" | "json") {
        return Err(wrong(settings, "logs.format", "expected auto, text or json"));
    }
    Ok(())
}

fn integer(settings: &LayeredSettings, key: &str) -> i64 {
    settings.get(key).value.as_integer().expect("the layers keep the type of the default")
}

fn text<'a>(settings: &'a LayeredSettings, key: &str) -> &'a str {
    settings.get(key).value.as_str().expect("the layers keep the type of the default")
}

fn wrong(settings: &LayeredSettings, key: &str, reason: impl Into<String>) -> ConfigError {
    let setting = settings.get(key);
    let value = match &setting.value {
        Value::String(text) => format!("\"{text}\""),
        other => other.to_string(),
    };
    let origin: SettingOrigin = setting.origin.clone();
    ConfigError::Value { key: key.to_owned(), value, origin, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn problem(set: &[&str]) -> String {
        let set = set.iter().map(|pair| (*pair).to_owned()).collect();
        let flags = Flags { set, ..Flags::default() };
        match LayeredSettings::read(None, std::iter::empty(), &flags) {
            Ok(_) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_integer_has_a_range_and_every_range_an_integer() {
        let settings = LayeredSettings::defaults();
        let mut ranged: Vec<String> = bounds().map(|(key, _, _)| key).collect();
        ranged.sort();
        let integers: Vec<&str> = settings
            .iter()
            .filter(|(_, setting)| setting.value.is_integer())
            .map(|(key, _)| key)
            .collect();
        assert_eq!(ranged, integers);
    }

    #[test]
    fn ranges_and_the_name_server_of_outbound_requests_are_checked() {
        assert_eq!(
            problem(&["outbound.permit=10.0.0.0/8, fd00::7", "outbound.resolver=[::1]:53"]),
            "none"
        );
        for (set, expected) in [
            ("outbound.permit=10.0.0.0/8,10.0.0.0/33", "10.0.0.0/33"),
            ("outbound.deny=example.com", "not a range"),
            ("outbound.resolver=ns.example", "IP:PORT"),
        ] {
            let problem = problem(&[set]);
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(problem(&[]), "none");
    }

    #[test]
    fn a_value_outside_of_its_range_names_key_value_origin_and_range() {
        assert_eq!(
            problem(&["limits.cpu_ms=0"]),
            "limits.cpu_ms = 0 (--set): must be from 1 to 3600000"
        );
        assert_eq!(
            problem(&["limits.memory_bytes=12"]),
            "limits.memory_bytes = 12 (--set): must be from 65536 (64 KiB) to 4294967296 (4 GiB)"
        );
        assert_eq!(
            problem(&["server.workers=-1"]),
            "server.workers = -1 (--set): must be from 0 to 1024"
        );
    }

    #[test]
    fn a_default_may_not_exceed_its_ceiling() {
        assert_eq!(
            problem(&["limits.cpu_ms=30001"]),
            "limits.cpu_ms = 30001 (--set): must not exceed ceilings.cpu_ms = 30000 (default)"
        );
        assert_eq!(problem(&["limits.cpu_ms=30001", "ceilings.cpu_ms=30001"]), "none");
    }

    #[test]
    fn a_chunk_of_a_body_fits_into_one_call() {
        assert_eq!(problem(&["guests.body_chunk_bytes=512KiB"]), "none");
        assert_eq!(
            problem(&["guests.body_chunk_bytes=513KiB"]),
            "guests.body_chunk_bytes = 525312 (--set): must not exceed half of \
             guests.hostcall_bytes = 1048576 (default)"
        );
    }

    #[test]
    fn a_control_plane_that_others_can_reach_must_be_asked_for() {
        let text = problem(&["admin_listen=0.0.0.0:9090"]);
        assert!(text.starts_with("admin_listen = \"0.0.0.0:9090\" (--set): other machines"));
        assert!(text.contains("insecure_admin = true"));
        assert_eq!(problem(&["admin_listen=0.0.0.0:9090", "insecure_admin=true"]), "none");
        assert_eq!(problem(&["admin_listen=[::1]:9090"]), "none");
    }

    #[test]
    fn proxies_are_addresses_and_the_proxy_protocol_needs_them() {
        assert_eq!(problem(&["server.trusted_proxies=10.0.0.0/8, ::1"]), "none");
        assert!(problem(&["server.trusted_proxies=proxy"]).contains("10.0.0.0/8"));
        assert!(problem(&["server.proxy_protocol=true"]).contains("server.trusted_proxies"));
        assert_eq!(problem(&["server.strip_headers=x-a, X_B"]), "none");
        assert!(problem(&["server.strip_headers=x a"]).contains("names of header fields"));
        assert_eq!(problem(&["server.host_routes=all"]), "none");
        assert!(problem(&["server.host_routes=some"]).ends_with("local, all or off"));
    }

    #[test]
    fn hosts_of_the_control_plane_are_bare_names() {
        assert_eq!(problem(&["server.admin_hosts=gateway.example, mayfly"]), "none");
        for host in ["https://gateway.example", "gateway.example:9090", "*", "a b"] {
            let problem = problem(&[&format!("server.admin_hosts={host}")]);
            assert!(problem.contains("such as gateway.example"), "{host}: {problem}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        assert!(problem(&["server.tls_cert=a"]).starts_with("server.tls_key"));
        assert!(problem(&["server.admin_tls_key=a"]).starts_with("server.admin_tls_cert"));
        let both = ["server.admin_tls_cert=a", "server.admin_tls_key=b"];
        assert_eq!(problem(&both), "none");
        assert_eq!(problem(&[both[0], both[1], "admin_listen=0.0.0.0:9090"]), "none");
    }

    #[test]
    fn addresses_have_a_port_and_differ() {
        assert!(
            problem(&["listen=8080"]).ends_with("expected IP:PORT, [IPv6]:PORT or localhost:PORT")
        );
        assert!(problem(&["listen=example.com:80"]).starts_with("listen = \"example.com:80\""));
        assert!(problem(&["listen=127.0.0.1:9090"]).contains("must differ from listen"));
        assert_eq!(problem(&["listen=127.0.0.1:0", "admin_listen=127.0.0.1:0"]), "none");
    }

    #[test]
    fn a_public_url_is_a_base_and_nothing_else() {
        for url in ["", "https://f.example", "http://f.example:81/base/"] {
            assert_eq!(problem(&[&format!("public_url={url}")]), "none");
        }
        for url in
            ["f.example", "ftp://f.example", "http://u:p@f.example", "http://f.example/?a", "/x"]
        {
            assert!(problem(&[&format!("public_url={url}")]).starts_with("public_url = "), "{url}");
        }
    }

    #[test]
    fn levels_and_formats_are_from_a_list() {
        assert_eq!(problem(&["logs.level=warn,gateway=debug"]), "none");
        assert!(problem(&["logs.level=inof"]).starts_with("logs.level = \"inof\" (--set)"));
        assert!(problem(&["logs.level="]).starts_with("logs.level = \"\""));
        assert!(problem(&["logs.format=xml"]).ends_with("expected auto, text or json"));
    }
}
