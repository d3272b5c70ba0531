//! Queued calls as clients see them, on both planes.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway_api::{AnsweredView, InvocationStatusView};
use store::{CallState, Invocation, StoredAnswer};

use crate::telemetry::clock::rfc3339;

/// Where a client of the data plane asks what became of a call. No function can be there.
pub(crate) const STATUS_PREFIX: &str = "/.mayfly/invocations/";

/// Header fields of an answer that are not shown later: cookies are for the client that called, and
/// the others are about a message that is not sent again.
const HIDDEN: [&str; 6] =
    ["set-cookie", "content-length", "date", "connection", "keep-alive", "trailer"];

/// A call, as the holder of its id sees it.
pub(crate) fn status(call: &Invocation) -> InvocationStatusView {
    let ended = matches!(call.state, CallState::Succeeded | CallState::Dead);
    InvocationStatusView {
        id: call.id.clone(),
        state: call.state.as_str().to_owned(),
        attempts: call.attempt,
        location: format!("{STATUS_PREFIX}{}", call.id),
        created_at: rfc3339(call.created_ms),
        finished_at: call.finished_ms.map(rfc3339),
        error: call.last_error.clone(),
        answer: call.answer.as_ref().filter(|_| ended).map(answer),
    }
}

/// An answer. It is shown within JSON, so that no browser takes it for a page of the gateway's.
pub(crate) fn answer(answer: &StoredAnswer) -> AnsweredView {
    let fields = answer.fields.0.iter().filter(|(name, _)| !HIDDEN.contains(&name.as_str()));
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_slice()));
    let (body, body_base64) = text_or_base64(&answer.body, answer.cut);
    let headers = joined(fields);
    AnsweredView { status: answer.status, headers, body, body_base64, truncated: answer.cut }
}

/// Header fields as an object: fields of one name become a list.
pub(crate) fn joined<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields {
        let value = String::from_utf8_lossy(value);
        match headers.get_mut(name) {
            Some(before) => {
                before.push_str(", ");
                before.push_str(&value);
            }
            None => drop(headers.insert(name.to_owned(), value.into_owned())),
        }
    }
    headers
}

/// Bytes as a text, or in Base64 if they are none. Of a text that was cut, half a character at the end
/// is left out.
pub(crate) fn text_or_base64(bytes: &[u8], cut: bool) -> (Option<String>, Option<String>) {
    if bytes.is_empty() {
        return (None, None);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(error) if cut && error.error_len().is_none() => {
            let text = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            (Some(text.into_owned()), None)
        }
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use store::StoredFields;

    use super::*;

    #[test]
    fn an_answer_is_shown_without_cookies() {
        let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let fields = StoredFields(vec![
            field("set-cookie", "a=1"),
            field("content-type", "text/html"),
            field("via", "1"),
            field("via", "2"),
        ]);
        let stored = StoredAnswer { status: 200, fields, body: b"<p>".to_vec(), cut: false };
        let shown = answer(&stored);
        let headers: Vec<_> = shown.headers.into_iter().collect();
        let expected = [("content-type", "text/html"), ("via", "1, 2")];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(shown.body.as_deref(), Some("<p>"));
    }

    #[test]
    fn bytes_that_are_no_text_are_in_base64() {
        assert_eq!(text_or_base64(b"", false), (None, None));
        assert_eq!(text_or_base64(&[0xff], false), (None, Some("/w==".to_owned())));
        assert_eq!(text_or_base64(b"a\xc3", true), (Some("a".to_owned()), None));
        assert_eq!(text_or_base64(b"a\xc3", false), (None, Some("YcM=".to_owned())));
    }
}
