use super::*;

fn file(text: &str) -> Result<LayeredSettings, ConfigError> {
    let mut settings = LayeredSettings::defaults();
    settings.overlay_file(Path::new("mayfly.toml"), text)?;
    Ok(settings)
}

fn environment(pairs: &[(&str, &str)]) -> Result<LayeredSettings, ConfigError> {
    let mut settings = LayeredSettings::defaults();
    settings.overlay_environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))?;
    Ok(settings)
}

fn flags(set: &[&str]) -> Result<LayeredSettings, ConfigError> {
    let mut settings = LayeredSettings::defaults();
    let set = set.iter().map(|pair| (*pair).to_owned()).collect();
    settings.overlay_flags(&Flags { set, ..Flags::default() })?;
    Ok(settings)
}

fn message(outcome: Result<LayeredSettings, ConfigError>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    assert_eq!(
        message(file("listen = \"127.0.0.1:1\"\n\n[limits]\n  memory_byte = 1\n")),
        "mayfly.toml:4:3: unknown setting `limits.memory_byte`; did you mean \
         `limits.memory_bytes`?"
    );
    assert_eq!(
        message(file("[limit]\ncpu_ms = 1\n")),
        "mayfly.toml:1:2: unknown setting `limit`; did you mean `limits`?"
    );
    assert_eq!(message(file("colour = 1\n")), "mayfly.toml:1:1: unknown setting `colour`");
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_place() {
    let text = message(file("listen = \"127.0.0.1:1\"\ncpu_ms = = 1\n"));
    assert!(text.starts_with("mayfly.toml:2:10: "), "{text}");
}

#[test]
fn a_key_given_twice_is_refused() {
    let text = message(file("listen = \"a\"\nlisten = \"b\"\n"));
    assert!(text.starts_with("mayfly.toml:2:1: "), "{text}");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_the_place() {
    assert_eq!(
        message(file("[limits]\ncpu_ms = \"fast\"\n")),
        "limits.cpu_ms = \"fast\" (mayfly.toml:2:1): expected an integer"
    );
    assert_eq!(message(file("limits = 5\n")), "limits = 5 (mayfly.toml:1:1): expected a table");
    assert_eq!(
        message(file("insecure_admin = 1\n")),
        "insecure_admin = 1 (mayfly.toml:1:1): expected a boolean"
    );
    assert_eq!(
        message(file("[limits]\nqueue = 99999999999999999999\n")),
        "limits.queue = 99999999999999999999 (mayfly.toml:2:1): expected a smaller integer"
    );
}

#[test]
fn every_toml_spelling_of_a_setting_is_understood() {
    for text in [
        "limits.cpu_ms = 5_000",
        "[limits]\ncpu_ms = 0x1388",
        "limits = { cpu_ms = 5000 }",
        "[\"limits\"]\n\"cpu_ms\" = 5000",
    ] {
        assert_eq!(file(text).unwrap().get("limits.cpu_ms").value, Value::Integer(5_000), "{text}");
    }
}

#[test]
fn sizes_may_have_a_unit_in_every_layer() {
    let expected = Value::Integer(64 << 20);
    let key = "limits.memory_bytes";
    assert_eq!(file("[limits]\nmemory_bytes = \"64MiB\"").unwrap().get(key).value, expected);
    let variable = [("MAYFLY_LIMITS_MEMORY_BYTES", "64MiB")];
    assert_eq!(environment(&variable).unwrap().get(key).value, expected);
    assert_eq!(flags(&["limits.memory_bytes=64MiB"]).unwrap().get(key).value, expected);
    assert_eq!(
        message(file("[limits]\nmemory_bytes = \"64 apples\"")),
        "limits.memory_bytes = \"64 apples\" (mayfly.toml:2:1): expected a number of bytes such \
         as 67108864 or 64MiB"
    );
}

#[test]
fn a_variable_has_the_type_of_its_default() {
    let settings = environment(&[
        ("MAYFLY_LIMITS_CPU_MS", "2_000"),
        ("MAYFLY_POOL_ASYNC_ENGINE", "false"),
        ("MAYFLY_LOGS_LEVEL", "debug"),
    ])
    .unwrap();
    assert_eq!(settings.get("limits.cpu_ms").value, Value::Integer(2_000));
    assert_eq!(settings.get("pool.async_engine").value, Value::Boolean(false));
    assert_eq!(settings.get("logs.level").value, Value::from("debug"));

    assert_eq!(
        message(environment(&[("MAYFLY_LIMITS_CPU_MS", "2s")])),
        "limits.cpu_ms = 2s (MAYFLY_LIMITS_CPU_MS): expected a whole number"
    );
    assert_eq!(
        message(environment(&[("MAYFLY_POOL_ASYNC_ENGINE", "yes")])),
        "pool.async_engine = yes (MAYFLY_POOL_ASYNC_ENGINE): expected true or false"
    );
}

#[test]
fn a_list_is_separated_by_commas() {
    let list = |items: &[&str]| Value::Array(items.iter().map(|i| Value::from(*i)).collect());
    let default = list(&[]);
    assert_eq!(from_text("key", &default, "a, b,,c "), Ok(list(&["a", "b", "c"])));
    assert_eq!(from_text("key", &default, ""), Ok(list(&[])));
}

#[test]
fn set_refuses_unknown_keys_and_what_is_no_pair() {
    assert_eq!(
        message(flags(&["limits.cpu=5"])),
        "--set: unknown setting `limits.cpu`; did you mean `limits.cpu_ms`?"
    );
    assert_eq!(message(flags(&["limits.cpu_ms"])), "--set: `limits.cpu_ms` is not KEY=VALUE");
}

#[test]
fn a_flag_of_its_own_wins_over_set() {
    let mut settings = LayeredSettings::defaults();
    let given = Flags {
        listen: Some("127.0.0.1:1".to_owned()),
        set: vec!["listen=127.0.0.1:2".to_owned()],
        ..Flags::default()
    };
    settings.overlay_flags(&given).unwrap();
    assert_eq!(settings.get("listen").value, Value::from("127.0.0.1:1"));
    assert_eq!(settings.get("listen").origin, SettingOrigin::Flag { name: "--listen" });
}

#[test]
fn flattening_and_rebuilding_loses_nothing() {
    assert_eq!(LayeredSettings::defaults().into_config().unwrap(), Config::default());
}
