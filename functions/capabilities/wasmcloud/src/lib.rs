//! Made with wasmCloud's crate for components.

use std::io::Read as _;

use protocol::{Answer, Asked, done, error, response, text, unknown};
use wasmcloud_component::{
    http,
    wasi::{
        config,
        keyvalue::{atomics, batch, store},
        logging::logging::{Level, log},
    },
};

struct Component;

http::export!(Component);

impl http::Server for Component {
    fn handle(
        request: http::IncomingRequest,
    ) -> http::Result<http::Response<impl http::OutgoingBody>> {
        let (head, mut incoming) = request.into_parts();
        let mut body = Vec::new();
        incoming.read_to_end(&mut body).unwrap();
        let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let (status, body) = response(answer(&Asked::read(&target, body)));
        Ok(http::Response::builder().status(status).body(body).unwrap())
    }
}

fn answer(asked: &Asked) -> Answer {
    if asked.interface == "config" {
        log(Level::Info, "config", &asked.key);
        let value = config::store::get(&asked.key).map_err(error)?;
        return Ok(value.map(String::into_bytes));
    }
    let bucket = store::open(&asked.label).map_err(error)?;
    match asked.operation.as_str() {
        "get" => bucket.get(&asked.key).map_err(error),
        "set" => done(bucket.set(&asked.key, &asked.body)),
        "delete" => done(bucket.delete(&asked.key)),
        "exists" => bucket.exists(&asked.key).map_err(error).and_then(text),
        "list" => {
            let page = bucket.list_keys(None).map_err(error)?;
            text(page.keys.join("\n"))
        }
        "increment" => {
            let sum = atomics::increment(&bucket, &asked.key, asked.number.cast_unsigned());
            sum.map_err(error).and_then(text)
        }
        "delete-many" => done(batch::delete_many(&bucket, &asked.keys())),
        _ => unknown(asked),
    }
}
