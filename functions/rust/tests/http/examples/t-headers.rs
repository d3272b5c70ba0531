//! Answers with the request as the guest sees it: method, path, scheme and
//! authority, then the headers, sorted, one `name: value` a line.

use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam, Scheme};

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let method = match request.method() {
        Method::Other(name) => name,
        standard => name(&standard),
    };
    let scheme = match request.scheme() {
        Some(Scheme::Other(name)) => name,
        Some(standard) => name(&standard),
        None => "-".to_owned(),
    };
    let mut lines = format!(
        "method: {method}\npath: {}\nscheme: {scheme}\nauthority: {}\n",
        request.path_with_query().unwrap_or("-".to_owned()),
        request.authority().unwrap_or("-".to_owned()),
    );
    let mut headers = request.headers().entries();
    headers.sort();
    for (name, value) in headers {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    tests_http::text(answer, &lines);
}

/// `Method::Get` becomes `GET`, `Scheme::Http` becomes `HTTP`.
fn name(variant: &impl std::fmt::Debug) -> String {
    let debug = format!("{variant:?}");
    debug.rsplit(':').next().unwrap_or_default().to_ascii_uppercase()
}
