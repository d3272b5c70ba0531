//! Calls that tell a function, or an address, of the end of another call.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use store::{
    Cause, Invocation, Lane, NewInvocation, NextState, StoredAnswer, StoredFields, StoredRequest,
};

use crate::{
    functions::{
        background::is_address,
        catalog::{Catalog, CatalogEntry},
    },
    triggers::call_queue::random_id,
};

/// The call that tells of an end, if the settings of the function ask for one. A call that tells of
/// another one is not told of itself: two functions could tell each other for ever.
pub(super) fn of_end(
    catalog: &Catalog,
    entry: &CatalogEntry,
    call: &Invocation,
    end: (NextState, Option<&str>, Option<&StoredAnswer>),
    now_ms: i64,
) -> Option<NewInvocation> {
    let (next, error, answer) = end;
    let told = entry.background.told.as_deref().filter(|_| call.cause != Cause::Callback)?;
    let (name, outcome) = match next {
        NextState::Succeeded => (told.on_success.as_deref()?, "succeeded"),
        NextState::Dead => (told.on_failure.as_deref()?, "dead"),
        NextState::Retry { .. } | NextState::HandedBack { .. } | NextState::Moved { .. } => {
            return None;
        }
    };
    let (lane, function, function_id, age_ms) = if is_address(name) {
        let own = (entry.key.function, entry.background.age_ms);
        (Lane::Delivery(own.0), call.function.clone(), own.0, own.1)
    } else if let Some(target) = catalog.get(&call.tenant, name) {
        let (id, age_ms) = (target.key.function, target.background.age_ms);
        (Lane::Function(id), name.to_owned(), id, age_ms)
    } else {
        tracing::warn!(function = call.function, told = name, "there is no function to tell");
        return None;
    };
    let id = random_id().ok()?;
    let document = document(call, outcome, error, answer);
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut fields = vec![field("content-type", "application/json")];
    if !is_address(name) {
        fields.push(field("host", "localhost"));
    }
    // So that functions of several gateways that tell each other notice that.
    let passed = call.request.fields.0.iter().filter(|(name, _)| name == "cdn-loop");
    fields.extend(passed.cloned());
    let request = StoredRequest {
        method: "POST".to_owned(),
        target: if is_address(name) { name } else { "/" }.to_owned(),
        fields: StoredFields(fields),
        body: document.to_string().into_bytes(),
    };
    Some(NewInvocation {
        id,
        tenant: call.tenant.clone(),
        lane,
        function,
        function_id,
        channel: None,
        revision: None,
        cause: Cause::Callback,
        source: Some(call.id.clone()),
        context: "{}".to_owned(),
        request,
        created_ms: now_ms,
        due_ms: now_ms,
        expires_ms: now_ms.saturating_add(age_ms),
        dedup: None,
    })
}

fn document(
    call: &Invocation,
    outcome: &str,
    error: Option<&str>,
    answer: Option<&StoredAnswer>,
) -> Value {
    let mut document = json!({
        "id": call.id,
        "function": call.function,
        "outcome": outcome,
        "attempts": call.attempt,
    });
    if let Some(error) = error {
        document["error"] = error.into();
    }
    if let Some(answer) = answer {
        document["status"] = answer.status.into();
        document["truncated"] = answer.cut.into();
        match std::str::from_utf8(&answer.body) {
            Ok(text) => document["body"] = text.into(),
            Err(_) => document["body_base64"] = STANDARD.encode(&answer.body).into(),
        }
    }
    document
}
