//! Compresses responses of routes whose owners ask for it.
//!
//! What a function has encoded itself stays as it is, and so does what is too small to gain, a part of
//! something larger, or said to stay unchanged (`no-transform`, digests).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response::Parts};
use http_body::Body as _;
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::Semaphore;

use super::{
    EdgeBody,
    encoder::{EncodedBody, Encoder},
};
use crate::functions::routes::coding::Coding;

/// Bytes below which a body is sent as it is: its head would outweigh what is gained.
const LEAST_BYTES: u64 = 256;
/// Responses that are compressed at a time; further ones are sent as they are. Each takes up to two
/// megabytes.
const AT_ONCE: usize = 256;
/// Types that are compressed besides `text/*` and those whose names end with `+json` or `+xml`.
const TYPES: [&str; 11] = [
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
];
/// Fields that say that the body is to stay as it is.
const KEEP: [&str; 6] =
    ["content-digest", "content-encoding", "content-md5", "content-range", "digest", "repr-digest"];

/// Compresses responses, some at a time.
pub(crate) struct Compression {
    places: Arc<Semaphore>,
    responses: IntCounterVec,
}

/// What the client of a request can read.
#[derive(Debug)]
pub(crate) struct Acceptable {
    /// The fields `accept-encoding`.
    accepts: Vec<HeaderValue>,
    is_head: bool,
}

impl Acceptable {
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let accepts = headers.get_all(header::ACCEPT_ENCODING).iter().cloned().collect();
        Self { accepts, is_head: *method == Method::HEAD }
    }

    /// The coding that the client likes best; of those that it likes equally the first.
    fn best(&self, codings: &[Coding]) -> Option<Coding> {
        let texts = self.accepts.iter().filter_map(|value| value.to_str().ok());
        let items: Vec<_> = texts.flat_map(|text| text.split(',')).filter_map(quality).collect();
        let quality = |coding: &Coding| {
            let named = items.iter().find(|(name, _)| coding.is_called(name));
            let any = || items.iter().find(|(name, _)| *name == "*");
            named.or_else(any).map_or(0, |(_, quality)| *quality)
        };
        // A client that would rather have it as it is says so, and is served so.
        let identity = items.iter().find(|(name, _)| name.eq_ignore_ascii_case("identity"));
        let least = identity.map_or(1, |(_, quality)| (*quality).max(1));
        let mut best = None;
        for coding in codings {
            let quality = quality(coding);
            if quality >= least && best.is_none_or(|(_, before)| quality > before) {
                best = Some((*coding, quality));
            }
        }
        best.map(|(coding, _)| coding)
    }
}

/// The name of a coding, and its weight in thousandths (RFC 9110, section 12.4.2).
fn quality(item: &str) -> Option<(&str, u32)> {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    let Some(weight) = weight else { return Some((name, 1_000)) };
    let weight: f32 = weight.parse().ok().filter(|weight| (0.0..=1.0).contains(weight))?;
    Some((name, (weight * 1_000.0).round() as u32))
}

impl Compression {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let responses = IntCounterVec::new(
            Opts::new(
                "mayfly_compressed_responses_total",
                "Responses of routes that were compressed, by coding, or not for want of room",
            ),
            &["coding"],
        )?;
        registry.register(Box::new(responses.clone()))?;
        Ok(Self { places: Arc::new(Semaphore::new(AT_ONCE)), responses })
    }

    /// Compresses a response, if it gains and its client can read it.
    pub(crate) fn apply(
        &self,
        codings: &[Coding],
        client: &Acceptable,
        head: &mut Parts,
        body: EdgeBody,
    ) -> EdgeBody {
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.or_else(|| body.size_hint().exact().filter(|_| !client.is_head));
        if head.status == StatusCode::NOT_MODIFIED {
            vary(&mut head.headers);
            return body;
        }
        if !may_change(head) || length.is_some_and(|length| length < LEAST_BYTES) {
            return body;
        }
        vary(&mut head.headers);
        let Some(coding) = client.best(codings) else { return body };
        // All that can fail comes before the head says how the body is encoded.
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        let encoded = place.and_then(|place| match client.is_head {
            true => Some(None),
            false => Some(Some(EncodedBody::new(Encoder::new(coding)?, place))),
        });
        let Some(encoded) = encoded else {
            self.responses.with_label_values(&["none-busy"]).inc();
            return body;
        };
        self.responses.with_label_values(&[coding.name()]).inc();
        let headers = &mut head.headers;
        for name in [header::CONTENT_LENGTH, header::ACCEPT_RANGES] {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        weaken(headers);
        match encoded {
            None => body,
            Some(encoded) => body.encoded(encoded),
        }
    }
}

fn may_change(head: &Parts) -> bool {
    let has_body = !head.status.is_informational()
        && ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT]
            .contains(&head.status);
    let kept = KEEP.iter().any(|name| head.headers.contains_key(*name));
    let cached = head.headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = cached.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let stays = directives.any(|part| part.trim().eq_ignore_ascii_case("no-transform"));
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    has_body && !kept && !stays && kind.is_some_and(gains)
}

/// Whether a type is one of texts.
fn gains(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || TYPES.contains(&kind.as_str())
}

/// Says that the response depends on what the client can read.
fn vary(headers: &mut HeaderMap) {
    let says = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = says.flat_map(|value| value.split(','));
    if !names.any(|name| ["*", "accept-encoding"].contains(&&*name.trim().to_ascii_lowercase())) {
        headers.append(header::VARY, HeaderValue::from(header::ACCEPT_ENCODING));
    }
}

/// The bytes are others than those that the function has named.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else { return };
    if !tag.as_bytes().starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    fn best(accepts: &[&'static str]) -> Option<&'static str> {
        let accepts = accepts.iter().map(|text| HeaderValue::from_static(text)).collect();
        Acceptable { accepts, is_head: false }.best(&ALL).map(Coding::name)
    }

    #[test]
    fn the_client_says_what_it_can_read_and_likes_best() {
        for (accepts, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some("gzip")),
            (&["X-GZIP"], Some("gzip")),
            (&["gzip, deflate, br, zstd"], Some("br")),
            (&["gzip, zstd"], Some("zstd")),
            (&["gzip", "br"], Some("br")),
            (&["gzip;q=1, br;q=0.9"], Some("gzip")),
            (&["gzip;q=0.2, br;q=0.3"], Some("br")),
            (&["gzip;q=0"], None),
            (&["*"], Some("br")),
            (&["*;q=0"], None),
            (&["br;q=0, *"], Some("zstd")),
            (&["br;q=0,zstd;q=0.0,gzip;q=0.001"], Some("gzip")),
            (&["identity"], None),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=0.5"], Some("gzip")),
            (&["identity;q=0, gzip;q=0.1"], Some("gzip")),
            (&["gzip;q=2"], None),
            (&["gzip;q=x"], None),
            (&["gzip ; q=0.5 , br;Q=0.4"], Some("gzip")),
            (&["compress, deflate"], None),
        ] {
            assert_eq!(best(accepts), expected, "{accepts:?}");
        }
    }

    #[test]
    fn texts_gain_and_what_is_compressed_does_not() {
        for kind in ["text/html; charset=utf-8", "TEXT/EVENT-STREAM", "application/problem+json"] {
            assert!(gains(kind), "{kind}");
        }
        for kind in ["image/png", "video/mp4", "application/zip", "application/octet-stream", ""] {
            assert!(!gains(kind), "{kind}");
        }
    }
}
