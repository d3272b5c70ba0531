//! The state of a run: answers by their keys. What a step sees of it is one JSON object.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use store::StepAnswer;

/// The longest key. As long as the name of a function.
const KEY_BYTES: usize = 63;
/// The member under which bytes are that are no text.
const BYTES: &str = "$base64";

/// Whether a text can be a key.
pub(super) fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// What the bytes of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Json,
    Text,
    Bytes,
}

impl ValueKind {
    const ALL: [Self; 3] = [Self::Json, Self::Text, Self::Bytes];

    /// The number in the store.
    fn number(self) -> u8 {
        match self {
            Self::Json => 0,
            Self::Text => 1,
            Self::Bytes => 2,
        }
    }
}

/// A value of the state, as it came: an answer that is the flow's leaves unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateValue {
    kind: ValueKind,
    /// What the function says that it is.
    pub(super) content_type: Option<String>,
    pub(super) body: Bytes,
}

impl StateValue {
    /// What a body is: JSON, or a text, or bytes.
    pub(super) fn of(content_type: Option<String>, body: Bytes) -> Self {
        let kind = match std::str::from_utf8(&body) {
            Err(_) => ValueKind::Bytes,
            Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => ValueKind::Json,
            Ok(_) => ValueKind::Text,
        };
        Self { kind, content_type, body }
    }

    /// A JSON value.
    pub(super) fn json(value: &Value) -> Self {
        let content_type = Some("application/json".to_owned());
        Self { kind: ValueKind::Json, content_type, body: value.to_string().into() }
    }

    /// What the state gets in place of the answer of a step that has failed.
    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::json(&json!({"code": status, "message": message}))
    }

    /// As the store keeps it.
    pub(super) fn stored(&self) -> StepAnswer {
        let (kind, content_type) = (self.kind.number(), self.content_type.clone());
        StepAnswer { kind, content_type, body: self.body.to_vec() }
    }

    /// `None` if this version does not know what it is.
    pub(super) fn of_stored(answer: StepAnswer) -> Option<Self> {
        let StepAnswer { kind, content_type, body } = answer;
        let kind = ValueKind::ALL.into_iter().find(|known| known.number() == kind)?;
        Some(Self { kind, content_type, body: body.into() })
    }

    /// As it is written into a JSON document.
    fn write(&self, document: &mut String) {
        match self.kind {
            ValueKind::Json => document.push_str(&String::from_utf8_lossy(&self.body)),
            ValueKind::Text => {
                document.push_str(&Value::from(String::from_utf8_lossy(&self.body)).to_string());
            }
            ValueKind::Bytes => {
                document.push_str(&json!({BYTES: STANDARD.encode(&self.body)}).to_string());
            }
        }
    }

    /// A place below it, such as `/address/city`; null if there is nothing.
    fn below(&self, pointer: &str) -> Value {
        let value: Option<Value> = match self.kind {
            ValueKind::Json => serde_json::from_slice(&self.body).ok(),
            ValueKind::Text | ValueKind::Bytes => None,
        };
        value.and_then(|value| value.pointer(pointer).cloned()).unwrap_or_default()
    }
}

/// The state is larger than a run's may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateTooLarge;

/// The state of a run.
#[derive(Debug)]
pub(super) struct FlowState {
    values: BTreeMap<String, StateValue>,
    /// The most bytes of all values, and of what a step sees.
    most: usize,
}

impl FlowState {
    pub(super) fn new(most: usize) -> Self {
        Self { values: BTreeMap::new(), most }
    }

    pub(super) fn get(&self, key: &str) -> Option<&StateValue> {
        self.values.get(key)
    }

    /// Sets a value, in place of an earlier one with this key.
    pub(super) fn set(&mut self, key: &str, value: StateValue) -> Result<(), StateTooLarge> {
        self.values.insert(key.to_owned(), value);
        let bytes = |(key, value): (&String, &StateValue)| key.len() + value.body.len();
        if self.values.iter().map(bytes).sum::<usize>() > self.most {
            return Err(StateTooLarge);
        }
        Ok(())
    }

    /// What a step sees: all values, or those that it names.
    pub(super) fn view(&self, with: &BTreeMap<String, String>) -> Result<String, StateTooLarge> {
        let mut document = String::from("{");
        let mut member = |name: &str, write: &dyn Fn(&mut String)| {
            if document.len() > 1 {
                document.push(',');
            }
            // Keys need no escaping.
            document.push('"');
            document.push_str(name);
            document.push_str("\":");
            write(&mut document);
            if document.len() > self.most { Err(StateTooLarge) } else { Ok(()) }
        };
        if with.is_empty() {
            for (key, value) in &self.values {
                member(key, &|document| value.write(document))?;
            }
        }
        for (alias, place) in with {
            let (key, below) = match place.find('/') {
                Some(slash) => place.split_at(slash),
                None => (place.as_str(), ""),
            };
            match self.values.get(key) {
                None => member(alias, &|document| document.push_str("null"))?,
                Some(value) if below.is_empty() => {
                    member(alias, &|document| value.write(document))?
                }
                Some(value) => {
                    let found = value.below(below).to_string();
                    member(alias, &|document| document.push_str(&found))?;
                }
            }
        }
        document.push('}');
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(body: &[u8]) -> StateValue {
        StateValue::of(None, Bytes::copy_from_slice(body))
    }

    fn with(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(alias, place)| ((*alias).to_owned(), (*place).to_owned())).collect()
    }

    /// Case W03.
    #[test]
    fn a_step_sees_answers_as_json_whatever_they_were() {
        let mut state = FlowState::new(1_000);
        for (key, body) in [
            ("json", &b"{\"a\": [1, {\"b/c\": 2}]}"[..]),
            ("number", b" 7 "),
            ("text", b"so \"it\" is\n"),
            ("none", b""),
            ("bytes", b"\xff\x00"),
        ] {
            state.set(key, value(body)).unwrap();
        }
        let seen = |pairs: &[(&str, &str)]| -> Value {
            serde_json::from_str(&state.view(&with(pairs)).unwrap()).unwrap()
        };
        let all = json!({"json": {"a": [1, {"b/c": 2}]}, "number": 7, "text": "so \"it\" is\n",
            "none": "", "bytes": {"$base64": "/wA="}});
        assert_eq!(seen(&[]), all);
        let some = [
            ("x", "text"),
            ("first", "json/a/0"),
            ("deep", "json/a/1/b~1c"),
            ("missing", "json/z"),
            ("of_text", "text/a"),
            ("gone", "gone"),
        ];
        let expected = json!({"x": "so \"it\" is\n", "first": 1, "deep": 2, "missing": null,
            "of_text": null, "gone": null});
        assert_eq!(seen(&some), expected);
        for value in [value(b"{}"), value(b"x"), value(b"\xff")] {
            assert_eq!(StateValue::of_stored(value.stored()), Some(value));
        }
        let unknown = StepAnswer { kind: 9, content_type: None, body: Vec::new() };
        assert_eq!(StateValue::of_stored(unknown), None);
    }

    /// Case W03.
    #[test]
    fn a_state_and_what_a_step_sees_of_it_are_bounded() {
        let mut state = FlowState::new(100);
        state.set("a", value(&[b'x'; 90])).unwrap();
        assert_eq!(state.set("b", value(&[b'x'; 20])), Err(StateTooLarge));
        // It takes the place of the other.
        state.set("b", value(b"1")).unwrap();
        // Bytes and escapes are larger in JSON.
        state.set("a", value(&[0xff; 80])).unwrap();
        assert_eq!(state.view(&with(&[])), Err(StateTooLarge));
        assert_eq!(state.view(&with(&[("b", "b")])).unwrap(), "{\"b\":1}");
        let twice: Vec<_> = (0..9).map(|n| (format!("c{n}"), "a".to_owned())).collect();
        state.set("a", value(&[b'1'; 30])).unwrap();
        assert_eq!(state.view(&twice.into_iter().collect()), Err(StateTooLarge));
    }

    /// Case W03.
    #[test]
    fn a_document_that_is_nested_deeply_harms_nothing() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let mut state = FlowState::new(1 << 20);
        state.set("deep", value(&deep)).unwrap();
        assert!(state.view(&with(&[])).unwrap().len() > 200_000);
        assert_eq!(state.view(&with(&[("x", "deep/0")])).unwrap(), "{\"x\":null}");
        assert!(is_key("a-B_9") && !is_key("") && !is_key("a.b") && !is_key(&"a".repeat(64)));
    }
}
