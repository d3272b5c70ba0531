//! Reads the whole body before it answers: with `whole` and the number of bytes,
//! or with `broken`, in both cases with status 200.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};
use wasip2::io::streams::StreamError;

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let body = request.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut bytes = 0;
    let end = loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => bytes += piece.len(),
            Err(StreamError::Closed) => break "whole",
            Err(StreamError::LastOperationFailed(_)) => break "broken",
        }
    };
    tests_http::text(answer, &format!("{end} {bytes}\n"));
}
