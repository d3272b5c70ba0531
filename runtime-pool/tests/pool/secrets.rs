//! Secrets in the requests that guests send.

use std::{net::SocketAddr, sync::Arc};

use runtime_pool::{AddressRange, Credential, Function, Secret};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use crate::support::{TestPool, answer, guest, key};

/// A server that answers each request with 200 and no body, and hands on the request's head.
async fn server() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = mpsc::unbounded_channel();
    // Ends with the test's runtime.
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(answer).await.unwrap();
            sender.send(String::from_utf8(head).unwrap()).unwrap();
        }
    });
    (address, heads)
}

#[tokio::test]
async fn tenants_have_secrets_of_the_same_name_and_each_sends_its_own() {
    let (server, mut heads) = server().await;
    let range: AddressRange = "127.0.0.1/32".parse().unwrap();
    let test = TestPool::with(|config| config.outbound.permit = vec![range]);
    let mut spec = test.spec(&guest("t-outbound"));
    let host = format!("http://{server}");
    spec.outbound = vec![host.parse().unwrap()];
    spec.credentials = vec![Credential::new(&host, "x-key", "api-key", "").unwrap()];

    let mut functions: Vec<Arc<Function>> = Vec::new();
    for (number, tenant) in ["first", "second"].into_iter().enumerate() {
        spec.tenant = tenant.into();
        functions.push(test.load(key(number as i64), &spec).await.0);
        let value = format!("the key of the {tenant}");
        let hosts = vec![host.parse().unwrap()];
        let secret = Secret { value: value.into(), hosts, functions: None };
        test.pool.set_secret(tenant, "api-key", secret);
    }
    let target = format!("/?to={server}");
    for (function, tenant) in functions.iter().zip(["first", "second"]) {
        assert_eq!(answer(function, &target).await.trim(), "1 x 200 0");
        let head = heads.recv().await.unwrap();
        assert!(head.contains(&format!("x-key: the key of the {tenant}\r\n")), "{head}");
    }

    test.pool.remove_secret("first", "api-key");
    assert!(!answer(&functions[0], &target).await.contains("200"));
    assert_eq!(answer(&functions[1], &target).await.trim(), "1 x 200 0");
    assert!(heads.recv().await.unwrap().contains("x-key: the key of the second\r\n"));
}
