//! Made with Spin's kit for Rust, version 7: asynchronous interfaces, and WASI 0.3.

use protocol::{Answer, Asked, done, error, response, text, unknown};
use spin_sdk::{
    http::{IntoResponse, Request, StatusCode, body::IncomingBodyExt as _},
    http_service,
    key_value::Store,
    variables,
};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let body = request.into_body().bytes().await.unwrap().to_vec();
    let (status, body) = response(answer(&Asked::read(&target, body)).await);
    // Tests have texts as values.
    (StatusCode::from_u16(status).unwrap(), String::from_utf8(body).unwrap())
}

async fn answer(asked: &Asked) -> Answer {
    if asked.interface == "variables" {
        return variables::get(&asked.key).await.map_err(error).and_then(text);
    }
    let store = Store::open(&asked.label).await.map_err(error)?;
    match asked.operation.as_str() {
        "get" => store.get(&asked.key).await.map_err(error),
        "set" => done(store.set(&asked.key, &asked.body).await),
        "delete" => done(store.delete(&asked.key).await),
        "exists" => store.exists(&asked.key).await.map_err(error).and_then(text),
        "list" => {
            let keys = store.get_keys().await.collect().await;
            keys.map_err(error).and_then(|keys| text(keys.join("\n")))
        }
        _ => unknown(asked),
    }
}
