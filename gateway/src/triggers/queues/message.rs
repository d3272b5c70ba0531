//! Messages on their way into a queue.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use store::{Cause, Dedup, Lane, NewInvocation, StoredFields, StoredRequest};

use crate::{
    request::idempotency_key::IDEMPOTENCY_KEY_BYTES,
    triggers::{call_queue::random_id, queues::table::NamedQueue},
};

/// Messages that are published together.
const MESSAGES: usize = 100;
/// Attributes of a message, and the bytes of each. Arbitrary: as headers that common servers accept.
const ATTRIBUTES: usize = 16;
const NAME_BYTES: usize = 64;
const VALUE_BYTES: usize = 1_024;
const CONTENT_TYPE_BYTES: usize = 256;

/// The name of the stored field with the type of a body.
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// Before the name of an attribute in the name of a field. Only the gateway can set such a field.
pub(crate) const ATTRIBUTE_PREFIX: &str = "mayfly-attribute-";

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewMessage {
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Seconds before which it is not delivered.
    pub(crate) delay_s: u32,
    /// What its publisher has named it.
    pub(crate) key: Option<String>,
}

/// Checks messages. An error says what is wrong, and names the member.
pub(super) fn check(queue: &NamedQueue, messages: &[NewMessage]) -> Result<(), String> {
    if !(1..=MESSAGES).contains(&messages.len()) {
        return Err(format!("messages: from 1 to {MESSAGES} are allowed"));
    }
    for (index, message) in messages.iter().enumerate() {
        check_one(queue, message).map_err(|why| format!("messages[{index}].{why}"))?;
        let same = |other: &NewMessage| other.key.is_some() && other.key == message.key;
        if messages[..index].iter().any(same) {
            return Err(format!("messages[{index}].idempotency_key: another one has it"));
        }
    }
    Ok(())
}

fn check_one(queue: &NamedQueue, message: &NewMessage) -> Result<(), String> {
    if let Some(text) = &message.content_type
        && !is_field_text(text, CONTENT_TYPE_BYTES)
    {
        return Err(format!(
            "content_type: at most {CONTENT_TYPE_BYTES} visible ASCII characters are allowed"
        ));
    }
    if message.attributes.len() > ATTRIBUTES {
        return Err(format!("attributes: at most {ATTRIBUTES} are allowed"));
    }
    for (name, value) in &message.attributes {
        let known = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        if !(1..=NAME_BYTES).contains(&name.len()) || !name.bytes().all(known) {
            return Err(format!(
                "attributes: {name:?} is not a name of 1 to {NAME_BYTES} of a-z, 0-9, -, _ and ."
            ));
        }
        if !value.is_empty() && !is_field_text(value, VALUE_BYTES) {
            return Err(format!(
                "attributes.{name}: at most {VALUE_BYTES} visible ASCII characters are allowed"
            ));
        }
    }
    if message.delay_s >= queue.spec.max_age_s {
        return Err("delay_s: it must be less than the queue's `max_age_s`".to_owned());
    }
    match &message.key {
        Some(key) if !is_field_text(key, IDEMPOTENCY_KEY_BYTES) => Err(format!(
            "idempotency_key: 1 to {IDEMPOTENCY_KEY_BYTES} visible ASCII characters are allowed"
        )),
        _ => Ok(()),
    }
}

/// Whether a text can be the whole value of a header field: no spaces around it.
fn is_field_text(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
}

/// A message as the store keeps it.
pub(super) fn stored(
    queue: &NamedQueue,
    message: NewMessage,
    now_ms: i64,
) -> Result<NewInvocation, getrandom::Error> {
    let dedup = message
        .key
        .as_ref()
        .map(|key| Dedup { key: Sha256::digest(key).into(), fingerprint: fingerprint(&message) });
    let NewMessage { body, content_type, attributes, delay_s, .. } = message;
    let content_type = content_type.map(|text| (CONTENT_TYPE.to_owned(), text.into_bytes()));
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (format!("{ATTRIBUTE_PREFIX}{name}"), value.into_bytes()));
    let fields = content_type.into_iter().chain(attributes);
    Ok(NewInvocation {
        id: random_id()?,
        tenant: queue.tenant.clone(),
        lane: Lane::Queue(queue.id),
        // Whichever function the queue has when the message is delivered.
        function: String::new(),
        function_id: 0,
        channel: None,
        revision: None,
        cause: Cause::Queue,
        source: Some(queue.name.clone()),
        context: "{}".to_owned(),
        request: StoredRequest {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            fields: StoredFields(fields.collect()),
            body,
        },
        created_ms: now_ms,
        due_ms: now_ms.saturating_add(i64::from(delay_s) * 1_000),
        expires_ms: now_ms.saturating_add(queue.max_age_ms()),
        dedup,
    })
}

/// A hash of what a message says.
fn fingerprint(message: &NewMessage) -> [u8; 32] {
    let body: [u8; 32] = Sha256::digest(&message.body).into();
    let said = (&message.content_type, &message.attributes, message.delay_s, body);
    // JSON tells where each part ends.
    let said = serde_json::to_vec(&said).expect("texts and numbers have JSON");
    Sha256::digest(said).into()
}

#[cfg(test)]
mod tests {
    use gateway_api::QueueSpec;

    use super::*;

    fn checked(messages: &[NewMessage]) -> String {
        let queue = NamedQueue::for_tests(&QueueSpec { max_age_s: 60, ..QueueSpec::default() });
        check(&queue, messages).err().unwrap_or_else(|| "nothing".to_owned())
    }

    fn attributes(name: &str, value: &str) -> NewMessage {
        let attributes = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        NewMessage { attributes, ..NewMessage::default() }
    }

    /// Case B02.
    #[test]
    fn what_cannot_be_a_message_names_the_member() {
        let text = |length| Some("x".repeat(length));
        let content_type = |text| NewMessage { content_type: text, ..NewMessage::default() };
        let key = |text| NewMessage { key: text, ..NewMessage::default() };
        let many: Vec<_> = (0..17).map(|n| (format!("a{n}"), String::new())).collect();
        let many = NewMessage { attributes: many.into_iter().collect(), ..NewMessage::default() };
        for (message, member) in [
            (content_type(text(257)), "content_type:"),
            (content_type(text(0)), "content_type:"),
            (content_type(Some("a\nb".to_owned())), "content_type:"),
            (many, "attributes:"),
            (attributes("A", ""), "attributes:"),
            (attributes("", ""), "attributes:"),
            (attributes(&"a".repeat(65), ""), "attributes:"),
            (attributes("a:b", ""), "attributes:"),
            (attributes("a", &"x".repeat(1_025)), "attributes.a:"),
            (attributes("a", "\r"), "attributes.a:"),
            (NewMessage { delay_s: 60, ..NewMessage::default() }, "delay_s:"),
            (key(text(256)), "idempotency_key:"),
            (key(text(0)), "idempotency_key:"),
            (key(Some("é".to_owned())), "idempotency_key:"),
        ] {
            let why = checked(std::slice::from_ref(&message));
            assert!(why.starts_with(&format!("messages[0].{member}")), "{message:?}: {why}");
        }
        let sound = attributes("a.b_c-1", "some text; of=headers");
        assert_eq!(checked(&[sound, content_type(text(256)), key(text(255))]), "nothing");
        assert!(checked(&[]).starts_with("messages:"));
        assert!(checked(&vec![NewMessage::default(); 101]).starts_with("messages:"));
        let twice = checked(&[key(text(1)), NewMessage::default(), key(text(1))]);
        assert!(twice.starts_with("messages[2].idempotency_key:"), "{twice}");
    }

    /// Case B02.
    #[test]
    fn another_message_of_the_same_name_has_another_fingerprint() {
        let message = NewMessage { body: b"a".to_vec(), ..attributes("a", "b") };
        let same = fingerprint(&message);
        assert_eq!(fingerprint(&NewMessage { key: Some("k".to_owned()), ..message.clone() }), same);
        for other in [
            NewMessage { body: b"b".to_vec(), ..message.clone() },
            NewMessage { content_type: Some("text/plain".to_owned()), ..message.clone() },
            NewMessage { delay_s: 1, ..message.clone() },
            NewMessage { attributes: attributes("ab", "").attributes, ..message },
        ] {
            assert_ne!(fingerprint(&other), same, "{other:?}");
        }
    }
}
