//! Header fields of requests as functions see them.

use super::{frames_of, with_each_kind};
use crate::{
    hostile_clients::{frames::DATA, said},
    test_gateway::TestGateway,
};

/// What a function that tells its request has been told over HTTP/2.
async fn told_over_http2(gateway: &TestGateway, path: &str, fields: &[(&str, &str)]) -> String {
    let found = frames_of(gateway.data(), "GET", path, fields).await;
    let data = found.into_iter().filter(|frame| frame.kind == DATA);
    String::from_utf8(data.flat_map(|frame| frame.payload).collect()).unwrap()
}

/// The same over HTTP/1.
async fn told_over_http1(gateway: &TestGateway, path: &str, fields: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n");
    let said = said(gateway.data(), request.as_bytes()).await;
    said.split_once("\r\n\r\n").unwrap().1.to_owned()
}

const TOLD: [&str; 3] = ["/f/t-answers/told", "/f/t-answers-p3/told", "/f/t-cgi-env/"];

#[tokio::test]
async fn cookies_are_one_field() {
    let gateway = with_each_kind(&[]).await;
    gateway.deploy("t-cgi-env").await;
    let crumbs = [("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")];
    for path in TOLD {
        let lines = crumbs.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        for told in [
            told_over_http2(&gateway, path, &crumbs).await,
            told_over_http1(&gateway, path, &lines).await,
        ] {
            let told = told.to_ascii_lowercase();
            assert_eq!(told.matches("cookie").count(), 1, "{path}: {told}");
            assert!(told.contains("a=1; b=2; c=3; d=4\n"), "{path}: {told}");
        }
    }
}
