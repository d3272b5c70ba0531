//! Whether a document can be a queue.

use gateway_api::QueueSpec;

use crate::{
    functions::{channels::is_channel_name, name::is_name},
    triggers::target::check_target,
};

/// Checks what an owner asks for. An error says what is wrong, and names the member.
pub(super) fn check(name: &str, spec: &QueueSpec) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("{name:?} cannot be the name of a queue: that is like a function's"));
    }
    if let Some(function) = spec.function.as_deref().filter(|function| !is_name(function)) {
        return Err(format!("function: {function:?} is not the name of a function"));
    }
    if let Some(channel) = spec.channel.as_deref() {
        if spec.function.is_none() {
            return Err("channel: it goes with `function`".to_owned());
        }
        if !is_channel_name(channel) {
            return Err(format!("channel: {channel:?} is not the name of a channel"));
        }
    }
    check_target(&spec.path).map_err(|why| format!("path: {why}"))?;
    within("batch_size", spec.batch_size.into(), 1, 100)?;
    within("concurrency", spec.concurrency.into(), 1, 256)?;
    within("visibility_ms", spec.visibility_ms, 100, 43_200_000)?;
    within("attempts", spec.attempts.into(), 1, 1_000)?;
    within("max_age_s", spec.max_age_s.into(), 1, 1_209_600)?;
    within("dead_retention_s", spec.dead_retention_s.into(), 1, 31_536_000)?;
    match spec.dead_letter_queue.as_deref() {
        Some(other) if other == name => {
            Err("dead_letter_queue: a queue cannot get its own dead messages".to_owned())
        }
        Some(other) if !is_name(other) => {
            Err(format!("dead_letter_queue: {other:?} is not the name of a queue"))
        }
        _ => Ok(()),
    }
}

fn within(member: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{member}: from {least} to {most} are allowed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(document: &Value) -> String {
        let spec: QueueSpec = serde_json::from_value(document.clone()).unwrap();
        check("orders", &spec).err().unwrap_or_else(|| "nothing".to_owned())
    }

    /// Case B03.
    #[test]
    fn what_cannot_be_a_queue_names_the_member() {
        for (document, member) in [
            (json!({"function": "No"}), "function:"),
            (json!({"channel": "beta"}), "channel:"),
            (json!({"function": "f", "channel": "-"}), "channel:"),
            (json!({"path": "a"}), "path:"),
            (json!({"path": "/a/../b"}), "path:"),
            (json!({"path": format!("/{}", "a".repeat(2_048))}), "path:"),
            (json!({"batch_size": 0}), "batch_size:"),
            (json!({"batch_size": 101}), "batch_size:"),
            (json!({"concurrency": 257}), "concurrency:"),
            (json!({"visibility_ms": 99}), "visibility_ms:"),
            (json!({"visibility_ms": 43_200_001}), "visibility_ms:"),
            (json!({"attempts": 0}), "attempts:"),
            (json!({"max_age_s": 1_209_601}), "max_age_s:"),
            (json!({"dead_retention_s": 0}), "dead_retention_s:"),
            (json!({"dead_letter_queue": "orders"}), "dead_letter_queue:"),
            (json!({"dead_letter_queue": "No"}), "dead_letter_queue:"),
        ] {
            let why = checked(&document);
            assert!(why.starts_with(member), "{document}: {why}");
        }
        assert_eq!(checked(&json!({})), "nothing");
        let all = json!({"function": "f", "channel": "beta", "path": "/a?b", "batch_size": 100,
            "dead_letter_queue": "dead"});
        assert_eq!(checked(&all), "nothing");
        assert!(check("Orders", &QueueSpec::default()).unwrap_err().contains("name"));
    }
}
