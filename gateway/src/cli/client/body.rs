//! Request bodies that are read while they are sent, so that no file is in memory as a whole.

use std::{
    fs,
    future::Future,
    io::{self, Read},
    os::fd::AsFd as _,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use store::Digest;
use tokio::{
    fs::File,
    io::{AsyncRead as _, ReadBuf},
    sync::Notify,
    time::timeout,
};

use crate::cli::{client::unreadable, commands::progress::Progress, failure::Failure};

/// The size of a read: large enough that system calls cost little, small enough that the progress
/// bar moves.
const CHUNK_BYTES: usize = 64 << 10;

/// The time to wait for "100 Continue", which a server may not send (RFC 9110, 10.1.1). Common
/// clients wait as long.
const CONSENT: Duration = Duration::from_secs(1);

/// Bytes of an argument that are read from a file or from standard input. Far above what a gateway takes.
const ARGUMENT_BYTES_MAX: u64 = 64 << 20;

/// A file or a stream as a body.
pub(crate) struct FileBody {
    file: File,
    /// The body is sent once this ends.
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The rest of the announced length; `None` if no length was announced.
    left: Option<u64>,
    buffer: Box<[u8]>,
    progress: Progress,
}

impl FileBody {
    /// Sends exactly `length` bytes of `file`.
    pub(crate) fn sized(file: std::fs::File, length: u64, progress: Progress) -> Self {
        Self::new(file, Some(length), progress)
    }

    /// Sends the file at `path` to its end, without announcing a length.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(std::fs::File::open(path)?, None, Progress::hidden()))
    }

    /// Sends standard input.
    pub(crate) fn stdin() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self::new(input.into(), None, Progress::hidden()))
    }

    /// Sends nothing before the server gives its `consent`, or the wait for it ends.
    pub(crate) fn after(mut self, consent: &Consent) -> Self {
        let given = Arc::clone(&consent.0);
        self.gate = Some(Box::pin(async move {
            // After the wait the body is sent all the same.
            let _ = timeout(CONSENT, given.notified()).await;
        }));
        self
    }

    fn new(file: std::fs::File, left: Option<u64>, progress: Progress) -> Self {
        let buffer = vec![0; CHUNK_BYTES].into_boxed_slice();
        Self { file: File::from_std(file), gate: None, left, buffer, progress }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Some(gate) = &mut this.gate {
            ready!(gate.as_mut().poll(cx));
            this.gate = None;
        }
        let most = this.left.map_or(CHUNK_BYTES, |left| {
            usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
        });
        if most == 0 {
            return Poll::Ready(None);
        }
        let mut buffer = ReadBuf::new(&mut this.buffer[..most]);
        ready!(Pin::new(&mut this.file).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        let count = read.len() as u64;
        let frame = Frame::data(Bytes::copy_from_slice(read));
        match &mut this.left {
            Some(_) if count == 0 => {
                let text = "the file became shorter while it was sent";
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))));
            }
            None if count == 0 => return Poll::Ready(None),
            Some(left) => {
                *left -= count;
                this.progress.add(count);
                // At once: the caller does not poll again after the announced length.
                if *left == 0 {
                    this.progress.sent();
                }
            }
            None => {}
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The server's consent to send the body ("100 Continue").
///
/// A client that does not wait for it often misses a refusal: the server answers and closes, the
/// client's next write fails, and the answer is never read.
#[derive(Debug, Default)]
pub(crate) struct Consent(Arc<Notify>);

impl Consent {
    /// Makes `request` ask for consent.
    pub(crate) fn ask<B>(self, request: &mut Request<B>) {
        let expectation = http::HeaderValue::from_static("100-continue");
        request.headers_mut().insert(http::header::EXPECT, expectation);
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                self.0.notify_one();
            }
        });
    }
}

/// The bytes that an argument stands for: the text itself, `@FILE`, or `-` for standard input.
pub(crate) fn read_argument(data: &str) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    if data == "-" {
        let input = io::stdin().lock();
        let read = input.take(ARGUMENT_BYTES_MAX).read_to_end(&mut body);
        read.map_err(|error| Failure::failed(format!("reading standard input: {error}")))?;
    } else if let Some(file) = data.strip_prefix('@').map(Path::new) {
        let opened = fs::File::open(file).map_err(|error| unreadable(file, &error))?;
        let read = opened.take(ARGUMENT_BYTES_MAX).read_to_end(&mut body);
        read.map_err(|error| unreadable(file, &error))?;
    } else {
        body.extend_from_slice(data.as_bytes());
    }
    Ok(body)
}

/// The length of the content of `reader`, and its SHA-256.
pub(crate) fn digest(mut reader: impl Read) -> io::Result<(u64, Digest)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut length = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((length, Digest::from_bytes(hash.finalize().into()))),
            Ok(count) => {
                hash.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A digest in the form of `Repr-Digest` (RFC 9530).
pub(crate) fn repr_digest(digest: &Digest) -> String {
    format!("sha-256=:{}:", base64(digest.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            if place <= chunk.len() {
                let digit = bits >> (18 - 6 * place) & 63;
                text.push(char::from(ALPHABET[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn the_digest_is_that_of_rfc_9530() {
        let (length, digest) = digest(&b"{\"hello\": \"world\"}\n"[..]).unwrap();
        assert_eq!(length, 19);
        assert_eq!(repr_digest(&digest), "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    }

    #[tokio::test]
    async fn a_file_is_sent_in_pieces_and_says_how_long_it_is() {
        let bytes = vec![7; CHUNK_BYTES * 2 + 5];
        let file = file(&bytes);
        let length = bytes.len() as u64;
        let body = FileBody::sized(file.reopen().unwrap(), length, Progress::hidden());
        assert_eq!(body.size_hint().exact(), Some(length));
        assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error() {
        let file = file(b"short");
        let body = FileBody::sized(file.reopen().unwrap(), 6, Progress::hidden());
        let error = body.collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn of_a_file_that_grew_only_the_announced_part_is_sent() {
        let file = file(b"longer");
        let body = FileBody::sized(file.reopen().unwrap(), 4, Progress::hidden());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "long");
    }
}
