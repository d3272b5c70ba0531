//! Requests `?bytes=` random bytes in one call; before that, answers with `?first=`
//! bytes, so that the head leaves.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let bytes = tests_http::number(request, "bytes").unwrap_or(4 << 30);
    let random = || wasip2::random::random::get_random_bytes(bytes).len();
    let Some(first) = tests_http::number(request, "first") else {
        return tests_http::text(answer, &format!("{}\n", random()));
    };
    let (body, stream) = tests_http::open(answer, "text/plain");
    let _ = tests_http::write(&stream, &vec![b'x'; first as usize]);
    let _ = tests_http::write(&stream, format!("{}\n", random()).as_bytes());
    tests_http::close(body, stream);
}
