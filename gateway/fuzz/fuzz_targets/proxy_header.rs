//! The header in which a proxy names its client.

#![no_main]

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use libfuzzer_sys::fuzz_target;

#[path = "../../src/server/proxy_header.rs"]
mod proxy_header;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let read = pin!(proxy_header::read(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(read) = read else { panic!("bytes in memory are ready at once") };
    if let Some(client) = read {
        assert!(data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
        assert!(client.is_none_or(|client| client.ip() == client.ip().to_canonical()));
        assert!(data.len() - rest.len() <= 16 + 4096, "more was read than the limit allows");
    }
});
