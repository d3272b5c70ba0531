//! Reads several entries by the second draft of `wasi:keyvalue` as the proposal itself has it, whose
//! `get-many` has another shape than that of Spin's kits.

use protocol::{Answer, Asked, error, response, text};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

wit_bindgen::generate!({
    inline: "
        package wasi:keyvalue@0.2.0-draft2;
        interface store {
          variant error { no-such-store, access-denied, other(string) }
          open: func(identifier: string) -> result<bucket, error>;
          resource bucket {
            set: func(key: string, value: list<u8>) -> result<_, error>;
          }
        }
        interface batch {
          use store.{bucket, error};
          get-many: func(bucket: borrow<bucket>, keys: list<string>)
            -> result<list<option<tuple<string, list<u8>>>>, error>;
        }
        world imports {
          import store;
          import batch;
        }
    ",
});

use wasi::keyvalue::{batch, store};

struct OtherShape;

wasip2::http::proxy::export!(OtherShape);

impl Guest for OtherShape {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (status, body) = response(answer(&Asked::read(&target, Vec::new())));
        let head = OutgoingResponse::new(Fields::new());
        head.set_status_code(status).unwrap();
        let outgoing = head.body().unwrap();
        ResponseOutparam::set(out, Ok(head));
        let stream = outgoing.write().unwrap();
        stream.blocking_write_and_flush(&body).unwrap();
        drop(stream);
        OutgoingBody::finish(outgoing, None).unwrap();
    }
}

/// Writes the first of several keys, and reads all of them.
fn answer(asked: &Asked) -> Answer {
    let bucket = store::open(&asked.label).map_err(error)?;
    let keys = asked.keys();
    bucket.set(&keys[0], b"value").map_err(error)?;
    let found = batch::get_many(&bucket, &keys).map_err(error)?;
    let found = found.into_iter().map(|pair| match pair {
        Some((key, value)) => format!("{key}={}", String::from_utf8_lossy(&value)),
        None => "-".to_owned(),
    });
    text(found.collect::<Vec<_>>().join("\n"))
}
