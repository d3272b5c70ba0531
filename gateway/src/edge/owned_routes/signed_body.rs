//! Bodies of signed requests. They are read and compared with what was signed before the function is
//! called: it never sees a byte that its caller has not sent.

use std::{convert::Infallible, pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use runtime_pool::RequestBody;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    functions::routes::auth::SignedBody,
    problem::{Problem, table},
    request::limited_body::{BodyFault, BodyFaults},
};

/// Bytes of the body of a signed request. It is kept in memory.
pub(in crate::edge) const SIGNED_BODY_BYTES: u64 = 1 << 20;
/// Signed requests whose bodies are in memory at a time: 64 MiB.
const AT_ONCE: usize = 64;

/// Room for the bodies of signed requests.
pub(in crate::edge) struct SignedBodies(Arc<Semaphore>);

/// A body with its place, which it holds for as long as it is in memory.
struct HeldBody {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl SignedBodies {
    pub(in crate::edge) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Reads a body, and compares it with what was signed.
    pub(in crate::edge) async fn read(
        &self,
        body: RequestBody,
        signed: SignedBody,
        faults: &BodyFaults,
    ) -> Result<RequestBody, Problem> {
        let place = Arc::clone(&self.0).try_acquire_owned().map_err(|_| full())?;
        let mut body = pin!(body);
        let (mut bytes, mut digest) = (BytesMut::new(), Sha256::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| faults.first().unwrap_or(BodyFault::Broken))?;
            // Trailers were not signed.
            if let Ok(data) = frame.into_data() {
                digest.update(&data);
                bytes.extend_from_slice(&data);
            }
        }
        if <[u8; 32]>::from(digest.finalize()) != signed.0 {
            return Err(other_body());
        }
        let bytes = Bytes::from_owner(HeldBody { bytes: bytes.freeze(), _place: place });
        let body = Full::new(bytes).map_err(|never: Infallible| match never {});
        Ok(RequestBody::Stream(body.boxed_unsync()))
    }
}

/// A request without a body must have been signed without one.
pub(in crate::edge) fn check_none(signed: SignedBody) -> Result<(), Problem> {
    if <[u8; 32]>::from(Sha256::digest(b"")) == signed.0 { Ok(()) } else { Err(other_body()) }
}

fn other_body() -> Problem {
    Problem::new(&table::AUTHENTICATION_REQUIRED)
        .detail("the body is not the one that was signed")
        .hint("Sign the SHA-256 of the body, and send it in the field that the route names.")
}

fn full() -> Problem {
    Problem::new(&table::BUFFER_LIMIT)
        .detail("bodies of signed requests are read before the function is called")
        .hint("Try again later.")
        .retry_after(1)
}
