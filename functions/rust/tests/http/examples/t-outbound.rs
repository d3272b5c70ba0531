//! Makes the requests that its caller describes (see `plan`), and answers with the outcome of each:
//! status and length of the body, the error's name, or the part that the host refused.

use tests_http::plan::{Outcomes, Plan, name, trailers};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, IncomingResponse,
    Method, OutgoingBody, OutgoingRequest, RequestOptions, ResponseOutparam, Scheme,
    http_error_code,
};
use wasip2::io::streams::StreamError;

tests_http::serve!(handle);

fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let plan = Plan::of(&request.path_with_query().unwrap_or_default());
    let mut outcomes = Outcomes::default();
    let mut left = plan.times;
    while left > 0 {
        let now = left.min(plan.at_once);
        left -= now;
        let sent: Vec<_> = (0..now).map(|_| send(&plan)).collect();
        for sent in sent {
            outcomes.push(sent.and_then(receive).unwrap_or_else(|failure| failure));
        }
    }
    tests_http::text(answer, &outcomes.text());
}

fn send(plan: &Plan) -> Result<FutureIncomingResponse, String> {
    let headers = Fields::new();
    for (name, value) in &plan.headers {
        headers.append(name, value).map_err(|_| format!("no header {name}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let method = match plan.method.as_str() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match plan.scheme.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| "no method")?;
    request.set_scheme(Some(&scheme)).map_err(|()| "no scheme")?;
    request.set_authority(Some(&plan.to)).map_err(|()| "no authority")?;
    request.set_path_with_query(Some(&plan.path)).map_err(|()| "no path")?;
    let options = RequestOptions::new();
    options.set_connect_timeout(plan.connect).map_err(|()| "no connect")?;
    options.set_first_byte_timeout(plan.first).map_err(|()| "no first")?;
    options.set_between_bytes_timeout(plan.between).map_err(|()| "no between")?;
    let body = plan.body.as_ref().map(|_| request.body().unwrap());
    let sent = outgoing_handler::handle(request, Some(options)).map_err(|code| name(&code))?;
    if let (Some(body), Some(text)) = (body, &plan.body) {
        if !text.is_empty() {
            let stream = body.write().unwrap();
            stream.blocking_write_and_flush(text.as_bytes()).map_err(|_| "no write")?;
        }
        OutgoingBody::finish(body, None).map_err(|code| name(&code))?;
    }
    Ok(sent)
}

fn receive(sent: FutureIncomingResponse) -> Result<String, String> {
    sent.subscribe().block();
    // Both unwraps hold: the future is ready, and its value is taken only once.
    let response: Result<IncomingResponse, ErrorCode> = sent.get().unwrap().unwrap();
    let response = response.map_err(|code| name(&code))?;
    let status = response.status();
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut length = 0;
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(bytes) => length += bytes.len(),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let code = http_error_code(&error);
                let code = code.map_or_else(|| error.to_debug_string(), |code| name(&code));
                return Err(format!("{status} {code}"));
            }
        }
    }
    drop(stream);
    let end = IncomingBody::finish(body);
    end.subscribe().block();
    let fields = end.get().unwrap().unwrap().map_err(|code| format!("{status} {}", name(&code)))?;
    let shown = fields.map(|fields| trailers(fields.entries())).unwrap_or_default();
    Ok(format!("{status} {length}{shown}"))
}
