//! Creates header fields of `?size=` bytes until the host refuses one, and answers
//! with their number; with `?list=`, creates that number in one call.

use wasip2::http::types::Fields;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

pub fn case(request: &IncomingRequest, answer: ResponseOutparam) {
    let value = vec![b'v'; tests_http::number(request, "size").unwrap_or(1) as usize];
    if let Some(count) = tests_http::number(request, "list") {
        let list: Vec<_> = (0..count).map(|n| (format!("x-{n}"), value.clone())).collect();
        let made = Fields::from_list(&list);
        return tests_http::text(answer, if made.is_ok() { "made" } else { "refused" });
    }
    let fields = Fields::new();
    let mut count = 0;
    while fields.append(&format!("x-{count}"), &value).is_ok() {
        count += 1;
    }
    tests_http::text(answer, &format!("{count}"));
}
