//! The same as `t-outbound`, for `wasi:http` 0.3.

use tests_p3::plan::{Outcomes, Plan, name, trailers as shown};
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use wasip3::wit_bindgen::{self, StreamResult};
use wasip3::{wit_future, wit_stream};

struct Outbound;

wasip3::http::service::export!(Outbound);

impl Guest for Outbound {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let plan = Plan::of(&request.get_path_with_query().unwrap_or_default());
        let mut outcomes = Outcomes::default();
        for _ in 0..plan.times {
            outcomes.push(exchange(&plan).await.unwrap_or_else(|failure| failure));
        }

        let headers =
            Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
        let (mut body, body_stream) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body_stream), trailers);
        wit_bindgen::spawn_local(async move {
            body.write_all(outcomes.text().into_bytes()).await;
        });
        Ok(response)
    }
}

async fn exchange(plan: &Plan) -> Result<String, String> {
    let headers = Fields::new();
    for (name, value) in &plan.headers {
        headers.append(name, value).map_err(|_| format!("no header {name}"))?;
    }
    let options = RequestOptions::new();
    options.set_connect_timeout(plan.connect).map_err(|_| "no connect")?;
    options.set_first_byte_timeout(plan.first).map_err(|_| "no first")?;
    options.set_between_bytes_timeout(plan.between).map_err(|_| "no between")?;
    let (_, trailers) = wit_future::new(|| Ok(None));
    let contents = plan.body.clone().map(|text| {
        let (mut body, contents) = wit_stream::new();
        wit_bindgen::spawn_local(async move {
            body.write_all(text.into_bytes()).await;
        });
        contents
    });
    let (request, _sent) = Request::new(headers, contents, trailers, Some(options));
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

    let response = client::send(request).await.map_err(|code| name(&code))?;
    let status = response.get_status_code();
    let (_, received) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Response::consume_body(response, received);
    let mut length = 0;
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let (result, chunk) = stream.read(buffer).await;
        let StreamResult::Complete(_) = result else { break };
        length += chunk.len();
        buffer = chunk;
        buffer.clear();
    }
    drop(stream);
    match trailers.await {
        Ok(fields) => {
            let fields = fields.map(|fields| shown(fields.copy_all())).unwrap_or_default();
            Ok(format!("{status} {length}{fields}"))
        }
        Err(code) => Err(format!("{status} {}", name(&code))),
    }
}
