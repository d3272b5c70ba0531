//! A function with an expensive start: it answers from a table that it must compute first. The
//! table has the length of Collatz sequences: how many steps a number takes to reach 1 if each step
//! halves an even number, and triples an odd one and adds one. `/?n=27` answers `111`.
//!
//! With the setting `snapshot`, the table is computed once, at the deploy.
//!
//! Kind: `wasi:http` 0.2 component.
//! Build: `cargo build --release --target wasm32-wasip2`

use std::sync::OnceLock;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

/// The number to look up if the query names none.
const USUAL: usize = 27;
/// Numbers that the table holds, from 0. Two bytes each.
const NUMBERS: u64 = 1 << 20;

static TABLE: OnceLock<Vec<u16>> = OnceLock::new();

/// Called at the deploy if the function has the setting `snapshot`. Without it, the first look-up
/// computes the table.
#[unsafe(export_name = "wizer-initialize")]
pub extern "C" fn prepare() {
    table();
}

fn table() -> &'static [u16] {
    TABLE.get_or_init(|| (0..NUMBERS).map(steps).collect())
}

fn steps(mut n: u64) -> u16 {
    let mut steps = 0;
    while n > 1 {
        n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

struct Table;

wasip2::http::proxy::export!(Table);

impl Guest for Table {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let (status, text) = match number(&request).and_then(|n| table().get(n)) {
            Some(steps) => (200, format!("{steps}\n")),
            None => (400, format!("?n= must be a number below {NUMBERS}\n")),
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

fn number(request: &IncomingRequest) -> Option<usize> {
    let target = request.path_with_query()?;
    let Some((_, query)) = target.split_once('?') else { return Some(USUAL) };
    query.split('&').find_map(|pair| pair.strip_prefix("n="))?.parse().ok()
}
