//! Made with Spin's kit for Rust, versions 3 and 5.

use protocol::{Answer, Asked, done, error, response, text, unknown};
use spin_sdk::{
    http::{IntoResponse, Request, Response},
    http_component,
    key_value::Store,
    variables,
};

#[http_component]
fn handle(request: Request) -> anyhow::Result<impl IntoResponse> {
    let (path, query) = (request.path(), request.query());
    let asked = Asked::read(&format!("{path}?{query}"), request.body().to_vec());
    let (status, body) = response(answer(&asked));
    Ok(Response::builder().status(status).body(body).build())
}

fn answer(asked: &Asked) -> Answer {
    if asked.interface == "variables" {
        return variables::get(&asked.key).map_err(error).and_then(text);
    }
    let store = Store::open(&asked.label).map_err(error)?;
    match asked.operation.as_str() {
        "get" => store.get(&asked.key).map_err(error),
        "set" => done(store.set(&asked.key, &asked.body)),
        "delete" => done(store.delete(&asked.key)),
        "exists" => store.exists(&asked.key).map_err(error).and_then(text),
        "list" => store.get_keys().map_err(error).and_then(|keys| text(keys.join("\n"))),
        _ => unknown(asked),
    }
}
