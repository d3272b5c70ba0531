//! Whether a document can be a flow.

use std::collections::BTreeSet;

use gateway_api::{FlowSpec, FlowStep, OnError};

use crate::{
    functions::{channels::is_channel_name, name::is_name},
    triggers::{flows::state::is_key, target::check_target},
};

/// Bytes of a flow's document.
const DOCUMENT_BYTES: usize = 64 << 10;
const STEPS: usize = 32;
const MEMBERS: usize = 16;
/// What a step sees by name. Arbitrary, large enough.
const WITH: usize = 32;
/// Bytes of the place of a value in the state.
const PLACE_BYTES: usize = 256;
/// The keys of the state that the flow's request has set.
pub(super) const INPUT: &str = "input";
pub(super) const PARAMS: &str = "params";

/// Checks what an owner asks for. An error says what is wrong, and names the member.
pub(super) fn check(name: &str, spec: &FlowSpec) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("{name:?} cannot be the name of a flow: that is like a function's"));
    }
    let bytes = serde_json::to_vec(spec).map_or(usize::MAX, |json| json.len());
    if bytes > DOCUMENT_BYTES {
        return Err(format!("it has {bytes} bytes; at most {DOCUMENT_BYTES} are allowed"));
    }
    within("timeout_ms", spec.timeout_ms, 3_600_000)?;
    within("attempts", spec.attempts.into(), 1_000)?;
    within("max_age_s", spec.max_age_s.into(), 1_209_600)?;
    within("concurrency", spec.concurrency.into(), 256)?;
    if !(1..=STEPS).contains(&spec.steps.len()) {
        return Err(format!("steps: from 1 to {STEPS} are allowed"));
    }
    // The keys of the state before a step.
    let mut keys = BTreeSet::from([INPUT.to_owned(), PARAMS.to_owned()]);
    for (index, step) in spec.steps.iter().enumerate() {
        let at = format!("steps[{index}]");
        let added = check_step(step, &keys).map_err(|why| format!("{at}{why}"))?;
        keys.extend(added);
    }
    keys.remove(INPUT);
    keys.remove(PARAMS);
    let last_is_group = spec.steps.last().is_some_and(|step| !step.group.is_empty());
    match &spec.response {
        Some(key) if !keys.contains(key) => Err(format!("response: no step has the key {key:?}")),
        None if last_is_group => {
            Err("response: it must say which answer of the last group is the flow's".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks a step, and returns the keys that it adds. An error begins with the member.
fn check_step(step: &FlowStep, keys: &BTreeSet<String>) -> Result<Vec<String>, String> {
    if step.group.is_empty() {
        return check_call(step, keys).map(|key| vec![key]);
    }
    let alone = FlowStep { group: step.group.clone(), ..FlowStep::default() };
    if *step != alone {
        return Err(".group: nothing goes with it; its members say it".to_owned());
    }
    if step.group.len() > MEMBERS {
        return Err(format!(".group: at most {MEMBERS} are allowed"));
    }
    let mut added = Vec::new();
    for (index, member) in step.group.iter().enumerate() {
        if !member.group.is_empty() {
            return Err(format!(".group[{index}].group: a group has no groups"));
        }
        let key = check_call(member, keys).map_err(|why| format!(".group[{index}]{why}"))?;
        if added.contains(&key) {
            return Err(format!(".group[{index}].as: another member has the key {key:?}"));
        }
        added.push(key);
    }
    Ok(added)
}

/// Checks a step that is no group, and returns the key of its answer.
fn check_call(step: &FlowStep, keys: &BTreeSet<String>) -> Result<String, String> {
    let target = match (&step.function, &step.flow) {
        (Some(function), None) if !is_name(function) => {
            return Err(format!(".function: {function:?} is not the name of a function"));
        }
        (None, Some(flow)) if !is_name(flow) => {
            return Err(format!(".flow: {flow:?} is not the name of a flow"));
        }
        (Some(target), None) | (None, Some(target)) => target,
        _ => return Err(": give exactly one of `function`, `flow` and `group`".to_owned()),
    };
    if step.flow.is_some() && (step.channel.is_some() || step.path.is_some()) {
        return Err(": `channel` and `path` go with `function`".to_owned());
    }
    if let Some(channel) = step.channel.as_deref().filter(|channel| !is_channel_name(channel)) {
        return Err(format!(".channel: {channel:?} is not the name of a channel"));
    }
    if let Some(path) = &step.path {
        check_target(path).map_err(|why| format!(".path: {why}"))?;
    }
    if let Some(timeout_ms) = step.timeout_ms {
        within(".timeout_ms", timeout_ms, 3_600_000)?;
    }
    if step.with.len() > WITH {
        return Err(format!(".with: at most {WITH} are allowed"));
    }
    for (alias, place) in &step.with {
        if !is_key(alias) {
            return Err(format!(".with: {alias:?} is not a name of a-z, A-Z, 0-9, - and _"));
        }
        let key = place.split('/').next().unwrap_or_default();
        if place.len() > PLACE_BYTES || !keys.contains(key) {
            return Err(format!(".with.{alias}: no step before this one has the key {key:?}"));
        }
    }
    check_errors(&step.on_error)?;
    match step.key.as_deref() {
        Some(key) if !is_key(key) => {
            Err(format!(".as: {key:?} is not a name of a-z, A-Z, 0-9, - and _"))
        }
        Some(INPUT | PARAMS) => Err(format!(".as: `{INPUT}` and `{PARAMS}` are the request's")),
        Some(key) => Ok(key.to_owned()),
        None if [INPUT, PARAMS].contains(&target.as_str()) => {
            Err(format!(".as: the name {target:?} is the request's: give another key"))
        }
        None => Ok(target.clone()),
    }
}

fn check_errors(on_error: &OnError) -> Result<(), String> {
    let OnError { any, codes, other } = on_error;
    if any.is_some() && !codes.is_empty() {
        return Err(".on_error: give `any` or `codes`, not both".to_owned());
    }
    if other.is_some() && codes.is_empty() {
        return Err(".on_error.other: it goes with `codes`".to_owned());
    }
    let is_code = |code: &str| code.parse().is_ok_and(|code: u16| (400..600).contains(&code));
    match codes.keys().find(|code| code.len() != 3 || !is_code(code)) {
        Some(code) => Err(format!(".on_error.codes: {code:?} is not from 400 to 599")),
        None => Ok(()),
    }
}

fn within(member: &str, value: u64, most: u64) -> Result<(), String> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{member}: from 1 to {most} are allowed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(document: &Value) -> String {
        let spec: FlowSpec = serde_json::from_value(document.clone()).unwrap();
        check("checkout", &spec).err().unwrap_or_else(|| "nothing".to_owned())
    }

    /// Case W01.
    #[test]
    fn what_cannot_be_a_flow_names_the_member() {
        let step = |more: Value| {
            let mut step = json!({"function": "f"});
            step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"steps": [{"function": "a"}, step]})
        };
        let f = || json!({"function": "f"});
        for (document, member) in [
            (json!({"steps": []}), "steps:"),
            (json!({"steps": vec![f(); 33]}), "steps:"),
            (json!({"steps": [f()], "timeout_ms": 0}), "timeout_ms:"),
            (json!({"steps": [f()], "timeout_ms": 3_600_001}), "timeout_ms:"),
            (json!({"steps": [f()], "attempts": 1_001}), "attempts:"),
            (json!({"steps": [f()], "max_age_s": 0}), "max_age_s:"),
            (json!({"steps": [f()], "concurrency": 257}), "concurrency:"),
            (json!({"steps": [f()], "response": "g"}), "response:"),
            (json!({"steps": [f()], "response": "input"}), "response:"),
            (json!({"steps": [{}]}), "steps[0]:"),
            (json!({"steps": [{"function": "F"}]}), "steps[0].function:"),
            (json!({"steps": [{"flow": "F"}]}), "steps[0].flow:"),
            (json!({"steps": [{"function": "f", "flow": "g"}]}), "steps[0]:"),
            (json!({"steps": [{"flow": "g", "path": "/"}]}), "steps[0]:"),
            (json!({"steps": [{"function": "input"}]}), "steps[0].as:"),
            (step(json!({"channel": "-"})), "steps[1].channel:"),
            (step(json!({"path": "x"})), "steps[1].path:"),
            (step(json!({"timeout_ms": 0})), "steps[1].timeout_ms:"),
            (step(json!({"as": "a b"})), "steps[1].as:"),
            (step(json!({"as": "params"})), "steps[1].as:"),
            (step(json!({"with": {"x": "later"}})), "steps[1].with.x:"),
            (step(json!({"with": {"x": "f"}})), "steps[1].with.x:"),
            (step(json!({"with": {"x y": "a"}})), "steps[1].with:"),
            (step(json!({"on_error": {"other": "return"}})), "steps[1].on_error.other:"),
            (
                step(json!({"on_error": {"any": "return", "codes": {"404": "return"}}})),
                "steps[1].on_error:",
            ),
            (step(json!({"on_error": {"codes": {"200": "return"}}})), "steps[1].on_error.codes:"),
            (step(json!({"on_error": {"codes": {"+40": "return"}}})), "steps[1].on_error.codes:"),
            (step(json!({"group": [f()]})), "steps[1].group:"),
            (json!({"steps": [{"group": vec![f(); 17]}], "response": "f"}), "steps[0].group:"),
            (json!({"steps": [{"group": [f(), f()]}], "response": "f"}), "steps[0].group[1].as:"),
            (
                json!({"steps": [{"group": [{"group": [f()]}]}], "response": "f"}),
                "steps[0].group[0].group:",
            ),
            (json!({"steps": [{"group": [f()]}]}), "response:"),
            (
                json!({"steps": [{"group": [f(), {"function": "g", "with": {"x": "f"}}]}],
                    "response": "f"}),
                "steps[0].group[1].with.x:",
            ),
        ] {
            let why = checked(&document);
            assert!(why.starts_with(member), "{document}: {why}");
        }
        let sound = json!({
            "steps": [
                {"function": "a", "path": "/a?b"},
                {"group": [
                    {"function": "b", "as": "left", "with": {"id": "a/id", "all": "input"}},
                    {"flow": "c", "timeout_ms": 5, "on_error": {"any": "continue"}},
                ]},
                {"function": "a", "as": "last", "channel": "beta",
                    "on_error": {"codes": {"404": "continue"}, "other": "return"}},
            ],
            "response": "left",
        });
        assert_eq!(checked(&sound), "nothing");
        let large = json!({"steps": vec![json!({"function": "f", "path": format!("/{}", "x".repeat(2_040))}); 32]});
        assert!(checked(&large).contains("bytes"), "{}", checked(&large));
    }
}
