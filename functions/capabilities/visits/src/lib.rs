//! Counts the visits of each page in a store of keys and values: `/about` answers `about: 3 visits`, and
//! `/` lists all pages. The configuration's value `greeting` is the first line, if there is one.
//!
//! Needs the setting `grants.keyvalue.default`.
//!
//! Kind: `wasi:http` 0.2 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wit_bindgen::generate!({
    path: ["../wit/deps/mayfly-keyvalue.wit", "../wit/deps/wasi-config-0.2.0-rc.1.wit"],
    inline: "
        package samples:visits;
        world visits {
          import mayfly:keyvalue/store@0.1.0;
          import wasi:config/store@0.2.0-rc.1;
        }
    ",
    generate_all,
});

use mayfly::keyvalue::store::{Bucket, Error};
use wasi::config::store as config;

/// Pages that are listed at once.
const LISTED: u32 = 100;

struct Visits;

wasip2::http::proxy::export!(Visits);

impl Guest for Visits {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let page = target.split('?').next().unwrap_or_default().trim_matches('/');
        let (status, text) = match count(page) {
            Ok(text) => (200, text),
            Err(error) => (500, format!("the store says: {error:?}\n")),
        };
        let headers =
            Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]).unwrap();
        let response = OutgoingResponse::new(headers);
        response.set_status_code(status).unwrap();
        let body = response.body().unwrap();
        ResponseOutparam::set(answer, Ok(response));
        let out = body.write().unwrap();
        out.blocking_write_and_flush(text.as_bytes()).unwrap();
        drop(out);
        OutgoingBody::finish(body, None).unwrap();
    }
}

fn count(page: &str) -> Result<String, Error> {
    let greeting = config::get("greeting").ok().flatten();
    let mut text = greeting.map(|greeting| format!("{greeting}\n")).unwrap_or_default();
    let visits = Bucket::open("")?;
    if !page.is_empty() {
        let count = visits.increment(page, 1)?;
        text.push_str(&format!("{page}: {count} visits\n"));
        return Ok(text);
    }
    for page in visits.list("", None, LISTED)?.keys {
        let entry = visits.get(&page.name)?;
        let count = entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        text.push_str(&format!("{}: {} visits\n", page.name, count.unwrap_or_default()));
    }
    Ok(text)
}
