//! Clients that send invalid requests, or valid ones too slowly, too often or in too large amounts.

mod bodies;
mod conformance;
mod crowds;
mod early_answers;
mod expectations;
mod floods;
mod forwarded;
pub(crate) mod frames;
mod real_clients;
mod reverse_proxies;
mod shares;
mod slow;
mod smuggling;
mod strict;

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time,
};

use crate::client::DEADLINE;

/// Sends `bytes` on a new connection and reads until it is closed. A reset counts as a close.
pub(crate) async fn said(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The gateway may close the connection before everything is sent.
    let _ = socket.write_all(bytes).await;
    until_closed(&mut socket).await
}

pub(crate) async fn until_closed(socket: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = time::timeout(DEADLINE, socket.read_to_end(&mut said))
        .await
        .expect("the connection stays open");
    String::from_utf8_lossy(&said).into_owned()
}

/// Asserts that the response is one problem with this status and slug.
#[track_caller]
pub(crate) fn assert_problem(said: &str, status: u16, slug: &str, case: &str) {
    assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {said}");
    assert!(said.contains("\r\ncontent-type: application/problem+json\r\n"), "{case}: {said}");
    assert!(said.contains(&format!("urn:mayfly:problem:{slug}\"")), "{case}: {said}");
    assert!(!said.contains("\nHTTP/1.1 "), "{case}: more than one response: {said}");
}
