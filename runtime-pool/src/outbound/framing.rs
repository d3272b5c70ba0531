//! Says in a request's head how its body ends.
//!
//! Guests rarely name the length of a body, and many write a body without a byte. What reaches the
//! server depends on what they do: no body has no framing, a body of unknown length is chunked. The
//! HTTP library alone would drop the body of a GET whose length is not known.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty};
use tokio::time;
use wasmtime_wasi_http::{Error, WasiBody};

use super::failure::OutboundFailure;

/// How long a guest may take to begin or to finish its body before the head is sent as if there
/// were one. Guests do that next, so most need microseconds. A server that must see the head before
/// the first byte of the body sees it this much later.
const BEGIN: Duration = Duration::from_millis(20);

/// Parts without a byte that are passed over at the beginning of a body.
const EMPTY_PARTS: usize = 64;

/// Frames the body of a request. A length that the guest has named stays, and is checked while the
/// body is sent.
pub(super) async fn framed(
    request: http::Request<WasiBody>,
) -> Result<http::Request<WasiBody>, OutboundFailure> {
    let (mut parts, mut body) = request.into_parts();
    if !parts.headers.contains_key(header::CONTENT_LENGTH) {
        body = begun(body).await?;
        if body.is_end_stream() {
            if expects_content(&parts.method) {
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        } else if body.size_hint().exact().is_none() {
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(header::TRANSFER_ENCODING, chunked);
        }
    }
    Ok(http::Request::from_parts(parts, body))
}

/// Methods whose requests have content as a rule: without any they say so (RFC 9110, section 8.6).
fn expects_content(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// Waits for the first part of a body whose length is not known. A body that ends without one
/// becomes an empty one.
async fn begun(mut body: WasiBody) -> Result<WasiBody, OutboundFailure> {
    if body.is_end_stream() || body.size_hint().exact().is_some() {
        return Ok(body);
    }
    match time::timeout(BEGIN, first_part(&mut body)).await {
        Ok(Some(Ok(first))) => Ok(BegunBody { first: Some(first), rest: body }.boxed_unsync()),
        Ok(Some(Err(Error::HttpRequestBodySize(sent)))) => {
            Err(OutboundFailure::RequestLength(sent))
        }
        Ok(Some(Err(_))) => Err(OutboundFailure::RequestBody),
        Ok(None) => Ok(Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()),
        Err(_) => Ok(body),
    }
}

/// The first part that has a byte. A guest that writes without end, but no byte, has begun.
async fn first_part(body: &mut WasiBody) -> Option<Result<Frame<Bytes>, Error>> {
    let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
    for _ in 0..EMPTY_PARTS {
        match body.frame().await {
            Some(Ok(frame)) if is_empty(&frame) => {}
            part => return part,
        }
    }
    body.frame().await
}

/// A body whose first part was read.
struct BegunBody {
    first: Option<Frame<Bytes>>,
    rest: WasiBody,
}

impl Body for BegunBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    /// Unknown: a part was read of it.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};

    use super::*;

    /// What a request with a body of these parts says about its length, and the bytes of the body.
    async fn sent(method: Method, parts: Vec<&'static str>) -> (String, Bytes) {
        let frames =
            parts.into_iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes()))));
        sent_body(method, StreamBody::new(stream::iter(frames)).boxed_unsync()).await
    }

    async fn sent_body(method: Method, body: WasiBody) -> (String, Bytes) {
        let request = http::Request::builder().method(method).body(body).unwrap();
        let (parts, body) = framed(request).await.unwrap().into_parts();
        let framing =
            match (parts.headers.get("content-length"), parts.headers.get("transfer-encoding")) {
                (Some(length), None) => length.to_str().unwrap().to_owned(),
                (None, Some(coding)) => coding.to_str().unwrap().to_owned(),
                (None, None) => "none".to_owned(),
                both => panic!("{both:?}"),
            };
        (framing, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn a_body_without_a_byte_has_no_framing_and_one_with_bytes_is_sent_by_every_method() {
        for (method, of_none) in [
            (Method::GET, "none"),
            (Method::HEAD, "none"),
            (Method::DELETE, "none"),
            (Method::OPTIONS, "none"),
            (Method::POST, "0"),
            (Method::PUT, "0"),
            (Method::PATCH, "0"),
        ] {
            let (framing, body) = sent(method.clone(), Vec::new()).await;
            assert_eq!((framing.as_str(), body.len()), (of_none, 0), "{method}");
            let (framing, body) = sent(method.clone(), vec!["", ""]).await;
            assert_eq!((framing.as_str(), body.len()), (of_none, 0), "{method}");
            let (framing, body) = sent(method.clone(), vec!["two ", "parts"]).await;
            assert_eq!((framing.as_str(), &*body), ("chunked", &b"two parts"[..]), "{method}");
        }
    }

    #[tokio::test]
    async fn a_body_that_has_not_begun_is_chunked() {
        let later = async {
            time::sleep(BEGIN * 5).await;
            Ok(Frame::data(Bytes::from_static(b"late")))
        };
        let body = StreamBody::new(stream::once(later)).boxed_unsync();
        assert_eq!(sent_body(Method::GET, body).await, ("chunked".to_owned(), "late".into()));
    }

    #[tokio::test]
    async fn a_body_of_known_length_needs_no_framing_of_ours() {
        let known = Full::new(Bytes::from_static(b"four")).map_err(|never| match never {});
        let (framing, body) = sent_body(Method::GET, known.boxed_unsync()).await;
        assert_eq!((framing.as_str(), &*body), ("none", &b"four"[..]));
    }

    #[tokio::test]
    async fn a_body_that_fails_before_it_begins_is_not_sent() {
        let failing = stream::iter([Err::<Frame<Bytes>, _>(Error::HttpProtocolError)]);
        let request = http::Request::new(StreamBody::new(failing).boxed_unsync());
        assert!(matches!(framed(request).await, Err(OutboundFailure::RequestBody)));
    }
}
