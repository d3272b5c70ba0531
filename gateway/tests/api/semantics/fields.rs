//! Header fields of requests as functions see them.

use super::{frames_of, with_each_kind};
use crate::{
    hostile_clients::{frames::DATA, said},
    test_gateway::TestGateway,
};

/// What a function that tells its request has been told over HTTP/2.
pub(super) async fn told_over_http2(
    gateway: &TestGateway,
    path: &str,
    fields: &[(&str, &str)],
) -> String {
    let found = frames_of(gateway.data(), "GET", path, fields).await;
    let data = found.into_iter().filter(|frame| frame.kind == DATA);
    String::from_utf8(data.flat_map(|frame| frame.payload).collect()).unwrap()
}

/// The same over HTTP/1.
pub(super) async fn told_over_http1(gateway: &TestGateway, path: &str, fields: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n");
    let said = said(gateway.data(), request.as_bytes()).await;
    said.split_once("\r\n\r\n").unwrap().1.to_owned()
}

pub(super) const TOLD: [&str; 3] = ["/f/t-answers/told", "/f/t-answers-p3/told", "/f/t-cgi-env/"];

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

/// The field of the mount that a function is told, if it is.
fn prefix(told: &str) -> Option<&str> {
    let line = |name: &str| told.lines().find_map(|line| line.strip_prefix(name));
    line("x-forwarded-prefix: ").or_else(|| line("HTTP_X_FORWARDED_PREFIX="))
}

#[tokio::test]
async fn a_function_learns_its_mount_from_no_client() {
    let gateway = with_each_kind(&[]).await;
    let behind = with_each_kind(&["server.trusted_proxies=127.0.0.1"]).await;
    for gateway in [&gateway, &behind] {
        gateway.deploy("t-cgi-env").await;
    }
    let claim = "x-forwarded-prefix: /api/\r\n";
    for path in TOLD {
        let (mount, _) = path.split_at("/f/".len() + path["/f/".len()..].find('/').unwrap());
        let told = told_over_http1(&gateway, path, claim).await;
        assert_eq!(prefix(&told), Some(mount), "{told}");
        let told = told_over_http2(&gateway, path, &[("x-forwarded-prefix", "/api")]).await;
        assert_eq!(prefix(&told), Some(mount), "{told}");
        let told = told_over_http1(&behind, path, claim).await;
        assert_eq!(prefix(&told), Some(&*format!("/api{mount}")), "{told}");
    }
    // By its own host a function is at the root.
    let request = "GET /told HTTP/1.1\r\nhost: t-answers.localhost\r\nconnection: close\r\n";
    let told = said(gateway.data(), format!("{request}{claim}\r\n").as_bytes()).await;
    assert!(told.contains("path: /told\n") && prefix(&told).is_none(), "{told}");
}
