//! The request that a function gets for messages, and what its answer says about them.
//!
//! With a batch size of 1, the request is the message. With more, it is a document in the form of an SQS
//! event, and the answer may name the messages that have failed, as answers to SQS do: such functions exist.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{Invocation, StoredAnswer, StoredFields, StoredRequest};

use crate::{
    telemetry::request_id::id_string,
    triggers::queues::{
        message::{ATTRIBUTE_PREFIX, CONTENT_TYPE},
        table::NamedQueue,
    },
};

/// Fields of requests for messages. Only the gateway can set them.
const QUEUE: &str = "mayfly-queue";
const MESSAGE_ID: &str = "mayfly-message-id";
/// The number of messages in a batch.
const MESSAGES: &str = "mayfly-messages";
/// The queue in which a dead message died.
const DEAD_LETTER_OF: &str = "mayfly-dead-letter-of";
/// What the member `eventSource` of a record says.
const EVENT_SOURCE: &str = "mayfly:queue";

/// A request with the id by which the function knows it again.
pub(super) struct BatchRequest {
    pub(super) request: StoredRequest,
    pub(super) id: String,
    /// The number of its attempt: that of the message with most attempts.
    pub(super) attempt: u32,
}

/// The request for messages, of which there is at least one.
pub(super) fn request(queue: &NamedQueue, messages: &[Invocation]) -> BatchRequest {
    let attempt = messages.iter().map(|message| message.attempt).max().unwrap_or_default();
    let (id, more, body) = match messages {
        [message] if queue.spec.batch_size == 1 => {
            let own = message.request.fields.0.iter().cloned();
            let more = own.chain([field(MESSAGE_ID, &message.id)]).chain(origin(queue, message));
            (message.id.clone(), more.collect::<Vec<_>>(), message.request.body.clone())
        }
        messages => {
            let records: Vec<Value> =
                messages.iter().map(|message| record(queue, message)).collect();
            let count = messages.len().to_string();
            let more = vec![field(CONTENT_TYPE, "application/json"), field(MESSAGES, &count)];
            (batch_id(messages), more, json!({"Records": records}).to_string().into_bytes())
        }
    };
    let own = [field("host", "localhost"), field(QUEUE, &queue.name)];
    let request = StoredRequest {
        method: "POST".to_owned(),
        target: queue.spec.path.clone(),
        fields: StoredFields(own.into_iter().chain(more).collect()),
        body,
    };
    BatchRequest { request, id, attempt }
}

fn field(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

/// Says where a message died that was moved here.
fn origin(queue: &NamedQueue, message: &Invocation) -> Option<(String, Vec<u8>)> {
    moved_from(queue, message).map(|from| field(DEAD_LETTER_OF, from))
}

/// The queue to which a message was published, if that is not the one that it is in.
pub(super) fn moved_from<'a>(queue: &NamedQueue, message: &'a Invocation) -> Option<&'a str> {
    message.source.as_deref().filter(|source| *source != queue.name)
}

/// The same for the same messages in the same order.
fn batch_id(messages: &[Invocation]) -> String {
    let mut hash = Sha256::new();
    for message in messages {
        // All ids have the same length.
        hash.update(&message.id);
    }
    let hash = hash.finalize();
    id_string(u128::from_be_bytes(hash[..16].try_into().expect("a hash has 32 bytes")))
}

/// A message as SQS describes it. Members that only the gateway has are beside the others.
fn record(queue: &NamedQueue, message: &Invocation) -> Value {
    let mut attributes = serde_json::Map::new();
    let mut content_type = None;
    for (name, value) in &message.request.fields.0 {
        let value = String::from_utf8_lossy(value);
        if let Some(name) = name.strip_prefix(ATTRIBUTE_PREFIX) {
            let attribute = json!({"stringValue": value, "dataType": "String"});
            attributes.insert(name.to_owned(), attribute);
        } else if name == CONTENT_TYPE {
            content_type = Some(value.into_owned());
        }
    }
    let mut record = json!({
        "messageId": message.id,
        "receiptHandle": message.id,
        "attributes": {
            "ApproximateReceiveCount": message.attempt.to_string(),
            "SentTimestamp": message.created_ms.to_string(),
        },
        "messageAttributes": attributes,
        "eventSource": EVENT_SOURCE,
        "eventSourceARN": format!("{EVENT_SOURCE}:{}:{}", queue.tenant, queue.name),
    });
    match std::str::from_utf8(&message.request.body) {
        Ok(text) => record["body"] = text.into(),
        Err(_) => {
            record["body"] = STANDARD.encode(&message.request.body).into();
            record["bodyEncoding"] = "base64".into();
        }
    }
    if let Some(content_type) = content_type {
        record["contentType"] = content_type.into();
    }
    if let Some(from) = moved_from(queue, message) {
        record["deadLetterOf"] = from.into();
    }
    record
}

/// What an answer says of a batch. Other members are the function's business.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchAnswer {
    #[serde(default)]
    batch_item_failures: Option<Vec<ItemFailure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: String,
}

/// The ids of the messages that have failed, as the answer to a batch says. An answer that cannot be
/// understood, and one that names a message that was not in the batch, is an error: all have failed.
pub(super) fn failures(
    answer: &StoredAnswer,
    messages: &[Invocation],
) -> Result<HashSet<String>, String> {
    // What is no document says nothing of messages.
    if !answer.body.trim_ascii_start().starts_with(b"{") {
        return Ok(HashSet::new());
    }
    if answer.cut {
        return Err("the answer to the batch is too long to be read".to_owned());
    }
    let read: BatchAnswer = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("the answer to the batch cannot be read: {error}"))?;
    let failed: HashSet<String> =
        read.batch_item_failures.into_iter().flatten().map(|item| item.item_identifier).collect();
    match failed.iter().find(|id| !messages.iter().any(|message| message.id == **id)) {
        None => Ok(failed),
        Some(other) => Err(format!(
            "the answer to the batch names {:?}, which is no message of it",
            other.chars().take(64).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::QueueSpec;
    use store::{CallState, Cause, Lane, Tenant};

    use super::*;

    fn queue(batch_size: u32) -> NamedQueue {
        let path = "/take?x=1".to_owned();
        NamedQueue::for_tests(&QueueSpec { batch_size, path, ..QueueSpec::default() })
    }

    fn message(id: &str, body: &[u8]) -> Invocation {
        Invocation {
            seq: 1,
            id: id.to_owned(),
            tenant: Tenant::default(),
            lane: Lane::Queue(1),
            function: String::new(),
            function_id: 0,
            channel: None,
            revision: None,
            cause: Cause::Queue,
            source: Some("orders".to_owned()),
            context: "{}".to_owned(),
            request: StoredRequest {
                method: "POST".to_owned(),
                target: "/".to_owned(),
                fields: StoredFields(vec![
                    field("content-type", "text/plain"),
                    field("mayfly-attribute-kind", "new"),
                ]),
                body: body.to_vec(),
            },
            state: CallState::Running,
            attempt: 2,
            created_ms: 5,
            due_ms: 5,
            expires_ms: 50,
            finished_ms: None,
            last_error: None,
            answer: None,
        }
    }

    /// Case B03.
    #[test]
    fn a_single_message_is_the_request_and_several_are_an_event() {
        let one = request(&queue(1), &[message("a", b"text")]);
        assert_eq!((&*one.id, one.attempt, &*one.request.target), ("a", 2, "/take?x=1"));
        assert_eq!(one.request.body, b"text");
        let names: Vec<_> = one.request.fields.0.iter().map(|(name, _)| name.as_str()).collect();
        let expected =
            ["host", "mayfly-queue", "content-type", "mayfly-attribute-kind", "mayfly-message-id"];
        assert_eq!(names, expected);

        let moved = Invocation { source: Some("first".to_owned()), ..message("b", b"\xff") };
        let messages = [message("a", b"text"), moved];
        let several = request(&queue(10), &messages);
        assert_eq!(several.id, request(&queue(10), &messages).id, "the same for the same messages");
        assert_ne!(several.id, request(&queue(10), &messages[..1]).id);
        let event: Value = serde_json::from_slice(&several.request.body).unwrap();
        let [first, second] = &event["Records"].as_array().unwrap()[..] else { panic!("{event}") };
        assert_eq!((&first["messageId"], &first["body"]), (&json!("a"), &json!("text")));
        assert_eq!(first["attributes"]["ApproximateReceiveCount"], "2");
        assert_eq!(first["messageAttributes"]["kind"]["stringValue"], "new");
        assert_eq!(first["eventSourceARN"], "mayfly:queue:default:orders");
        assert_eq!((&second["body"], &second["bodyEncoding"]), (&json!("/w=="), &json!("base64")));
        assert_eq!(second["deadLetterOf"], "first");
        // The form depends on the queue alone, not on how many messages there are.
        let single = request(&queue(10), &messages[..1]);
        assert!(single.request.body.starts_with(b"{\"Records\""));
    }

    /// Case B05.
    #[test]
    fn an_answer_names_the_messages_that_have_failed() {
        let messages = [message("a", b""), message("b", b"")];
        let failed = |body: &str, cut| {
            let body = body.as_bytes().to_vec();
            let answer = StoredAnswer { status: 200, fields: StoredFields::default(), body, cut };
            let mut ids: Vec<_> = failures(&answer, &messages)?.into_iter().collect();
            ids.sort();
            Ok::<_, String>(ids.join(" "))
        };
        for (body, expected) in [
            ("", ""),
            ("done", ""),
            ("[1]", ""),
            ("{}", ""),
            ("{\"other\": 1}", ""),
            ("{\"batchItemFailures\": null}", ""),
            ("{\"batchItemFailures\": []}", ""),
            (" {\"batchItemFailures\": [{\"itemIdentifier\": \"b\"}]}", "b"),
            (
                "{\"batchItemFailures\": [{\"itemIdentifier\":\"b\"},{\"itemIdentifier\":\"a\"}]}",
                "a b",
            ),
        ] {
            assert_eq!(failed(body, false).unwrap(), expected, "{body}");
        }
        for body in [
            "{",
            "{\"batchItemFailures\": 1}",
            "{\"batchItemFailures\": [{}]}",
            "{\"batchItemFailures\": [{\"itemIdentifier\": \"\"}]}",
            "{\"batchItemFailures\": [{\"itemIdentifier\": \"c\"}]}",
        ] {
            assert!(failed(body, false).is_err(), "{body}");
        }
        assert!(failed("{}", true).is_err());
        assert!(failed("text", true).is_ok());
    }
}
