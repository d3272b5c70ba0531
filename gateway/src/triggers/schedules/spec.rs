//! Whether a document can be a schedule.

use gateway_api::{ScheduleSpec, ScheduledRequest};
use jiff::Timestamp;

use crate::{
    functions::{
        channels::is_channel_name,
        name::is_name,
        routes::fields::{fields, methods},
    },
    triggers::{schedules::timing::CronTiming, target::check_target},
};

/// Bytes of a body. A function can fetch more.
const BODY_BYTES: usize = 64 << 10;

/// Checks what an owner asks for. An error says what is wrong, and names the member.
pub(crate) fn check(name: &str, spec: &ScheduleSpec, now: Timestamp) -> Result<CronTiming, String> {
    if !is_name(name) {
        return Err(format!(
            "{name:?} cannot be the name of a schedule: that is like a function's"
        ));
    }
    if !is_name(&spec.function) {
        return Err(format!("function: {:?} is not the name of a function", spec.function));
    }
    if let Some(channel) = spec.channel.as_deref().filter(|channel| !is_channel_name(channel)) {
        return Err(format!("channel: {channel:?} is not the name of a channel"));
    }
    if !(1..=1_000).contains(&spec.catch_up_runs) {
        return Err("catch_up_runs: from 1 to 1,000 are allowed".to_owned());
    }
    if !(1..=2_592_000).contains(&spec.catch_up_age_s) {
        return Err("catch_up_age_s: from 1 to 2,592,000 (30 days) are allowed".to_owned());
    }
    check_request(&spec.request)?;
    CronTiming::checked(&spec.cron, &spec.time_zone, now).map_err(|error| error.to_string())
}

fn check_request(request: &ScheduledRequest) -> Result<(), String> {
    methods("request.method", std::slice::from_ref(&request.method))?;
    fields("request.headers", &request.headers)?;
    check_target(&request.path).map_err(|why| format!("request.path: {why}"))?;
    if request.body.len() > BODY_BYTES {
        return Err(format!("request.body: at most {BODY_BYTES} bytes are allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is wrong with a schedule that has these members besides the ones that it must have.
    fn wrong(more: &Value) -> String {
        let mut document = json!({"function": "report", "cron": "@daily"});
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: ScheduleSpec = serde_json::from_value(document).unwrap();
        let checked = check("nightly", &spec, "2026-11-29T01:30:00Z".parse().unwrap());
        checked.map(|_| "nothing".to_owned()).unwrap_or_else(|why| why)
    }

    /// Case V01.
    #[test]
    fn what_cannot_be_a_schedule_names_the_member() {
        for (more, member) in [
            (json!({"function": "No"}), "function:"),
            (json!({"channel": "-"}), "channel:"),
            (json!({"catch_up_runs": 0}), "catch_up_runs:"),
            (json!({"catch_up_runs": 1_001}), "catch_up_runs:"),
            (json!({"catch_up_age_s": 0}), "catch_up_age_s:"),
            (json!({"catch_up_age_s": 2_592_001}), "catch_up_age_s:"),
            (json!({"cron": "0 0 30 2 *"}), "cron:"),
            (json!({"time_zone": "nowhere"}), "time_zone:"),
            (json!({"request": {"method": "CONNECT"}}), "request.method:"),
            (json!({"request": {"method": "G T"}}), "request.method:"),
            (json!({"request": {"path": ""}}), "request.path:"),
            (json!({"request": {"path": "a"}}), "request.path:"),
            (json!({"request": {"path": "/a/../b"}}), "request.path:"),
            (json!({"request": {"path": "/a#b"}}), "request.path:"),
            (json!({"request": {"path": format!("/{}", "a".repeat(2_048))}}), "request.path:"),
            (json!({"request": {"headers": {"host": "a"}}}), "request.headers:"),
            (json!({"request": {"headers": {"mayfly-x": "a"}}}), "request.headers:"),
            (json!({"request": {"headers": {"x": "\n"}}}), "request.headers:"),
            (json!({"request": {"body": "a".repeat((64 << 10) + 1)}}), "request.body:"),
        ] {
            let why = wrong(&more);
            assert!(why.starts_with(member), "{more}: {why}");
        }
        assert_eq!(wrong(&json!({"request": {"path": "/a?b=c", "body": "x"}})), "nothing");
        let spec: ScheduleSpec =
            serde_json::from_value(json!({"function": "a", "cron": "@daily"})).unwrap();
        assert!(check("Nightly", &spec, Timestamp::UNIX_EPOCH).unwrap_err().contains("name"));
    }
}
