//! The request id and the log line of each request to the control plane.

use std::borrow::Cow;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::HeaderValue;
use prometheus::IntCounterVec;

use crate::{
    problem::{Problem, REQUEST_ID},
    request::{
        limited_body::{BodyFault, BodyFaults},
        server_options,
    },
    server::Peer,
};

/// Bytes of a path that the log shows.
const PATH_BYTES: usize = 256;
/// The beginning of a token.
const TOKEN: &str = "mfy_";
/// Hexadecimal digits in a row that are taken for a part of a token, whose secret has 64.
const SECRET_DIGITS: usize = 40;

/// Adds a request id to the answer, to a problem's body and to the log, and counts problems. A
/// request that was refused before routing is answered here.
pub(crate) async fn name(
    State(problems): State<IntCounterVec>,
    request: Request,
    next: Next,
) -> Response {
    let id = random_id();
    let (method, path) = (request.method().clone(), shown_path(request.uri().path()));
    let local_user = request.extensions().get::<Peer>().and_then(|peer| peer.local_user);
    let faults = request.extensions().get::<BodyFaults>().cloned();
    let response = match request.extensions().get::<Problem>() {
        Some(refused) => refused.clone().into_response(),
        None if server_options::is_asked(&method, &path) => server_options::answer(),
        None => next.run(request).await,
    };
    let response = match faults.and_then(|faults| faults.first()) {
        Some(fault @ BodyFault::TooSlow(_)) => Problem::from(fault).into_response(),
        // The handlers answer these with problems of their own.
        Some(BodyFault::TooLarge(_) | BodyFault::Broken) | None => response,
    };
    let status = response.status().as_u16();
    tracing::info!(request = id, %method, path, status, local_user, "control");
    let mut response = match response.extensions().get::<Problem>().cloned() {
        Some(problem) => {
            problems.with_label_values(&[problem.slug()]).inc();
            problem.for_request(id.clone()).into_response()
        }
        None => response,
    };
    // Always succeeds: hexadecimal digits are valid in a header.
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A path for the log: without tokens, which a client may have put there by mistake, and cut, because
/// a client without a token chooses it.
fn shown_path(path: &str) -> String {
    let mut shown = without_tokens(path);
    if shown.len() > PATH_BYTES {
        shown.truncate(shown.floor_char_boundary(PATH_BYTES));
        shown.push('…');
    }
    shown
}

/// Replaces what may be a token. In an encoded one only its long run of digits is recognised.
fn without_tokens(path: &str) -> String {
    let in_token = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    let shown = path.split_inclusive(|character| !in_token(character)).map(|part| {
        let word = part.trim_end_matches(|character| !in_token(character));
        let mut digits = word.split(|character: char| !character.is_ascii_hexdigit());
        let has_secret = digits.any(|digits| digits.len() >= SECRET_DIGITS);
        match word.find(TOKEN) {
            Some(at) => Cow::Owned(format!("{}{TOKEN}…{}", &word[..at], &part[word.len()..])),
            None if has_secret => Cow::Owned(format!("…{}", &part[word.len()..])),
            None => Cow::Borrowed(part),
        }
    });
    shown.collect()
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is not unique; the request is answered all the same.
    let _ = getrandom::fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_path_is_not_shown() {
        let secret = "0123456789abcdef".repeat(4);
        let token = format!("mfy_0011223344556677_{secret}");
        for (path, shown) in [
            (format!("/v1/functions/{token}"), "/v1/functions/mfy_…".to_owned()),
            (format!("/{token}/x;{token}"), "/mfy_…/x;mfy_…".to_owned()),
            (format!("/v1/Bearer:{token}"), "/v1/Bearer:mfy_…".to_owned()),
            (format!("/x{token}"), "/xmfy_…".to_owned()),
            (format!("/%6d%66y_00112233_{secret}/a"), "/%6d%…/a".to_owned()),
            (format!("/{secret}"), "/…".to_owned()),
            ("/v1/functions/hello".to_owned(), "/v1/functions/hello".to_owned()),
            ("/".to_owned(), "/".to_owned()),
            (String::new(), String::new()),
        ] {
            assert_eq!(shown_path(&path), shown);
        }
    }

    #[test]
    fn a_long_path_is_cut() {
        let long = format!("/{}", "a/".repeat(4_000));
        assert_eq!(shown_path(&long), format!("{}…", &long[..PATH_BYTES]));
        let wide = "/ü".repeat(1_000);
        assert!(shown_path(&wide).len() <= PATH_BYTES + "…".len());
    }
}
