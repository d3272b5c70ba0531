//! Bodies that do not match their heads.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    hostile_clients::{assert_problem, until_closed},
    test_gateway::TestGateway,
};

/// Case H14.
#[tokio::test]
async fn a_broken_body_is_an_error_to_the_guest_and_a_400_to_its_client() {
    let gateway = TestGateway::start().await;
    for guest in ["t-read", "echo", "echo-p3", "echo-cgi", "c-echo-cgi"] {
        gateway.deploy(guest).await;
        for broken in
            ["-1\r\n", "fffffffffffffffff\r\n", "3\r\nabcd\r\n", "zz\r\n", "3\nabc\r\n", "0\r\n\n"]
        {
            let head = format!(
                "POST /f/{guest}/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
            );
            let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
            socket.write_all(head.as_bytes()).await.unwrap();
            // The guest is running before the body breaks.
            gateway.metric_becomes("mayfly_live_instances", 1.0).await;
            socket.write_all(broken.as_bytes()).await.unwrap();
            let said = until_closed(&mut socket).await;
            if guest != "t-read" && said.starts_with("HTTP/1.1 200 ") {
                // The response had begun.
                assert!(!said.ends_with("0\r\n\r\n"), "{guest}: {broken:?}: {said}");
            } else {
                assert_problem(&said, 400, "bad-body", &format!("{guest}: {broken:?}"));
            }
            gateway.metric_becomes("mayfly_live_instances", 0.0).await;
        }
    }
}

/// Case H14.
#[tokio::test]
async fn a_truncated_body_is_never_complete_to_the_guest() {
    let gateway = TestGateway::start().await;
    for guest in ["t-read", "echo", "echo-p3", "echo-cgi"] {
        gateway.deploy(guest).await;
        for head in [
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
            "content-length: 4\r\n\r\nabc",
        ] {
            let mut socket = TcpStream::connect(gateway.data()).await.unwrap();
            let head = format!("POST /f/{guest}/ HTTP/1.1\r\nhost: a\r\n{head}");
            socket.write_all(head.as_bytes()).await.unwrap();
            gateway.metric_becomes("mayfly_live_instances", 1.0).await;
            socket.shutdown().await.unwrap();
            let said = until_closed(&mut socket).await;
            let complete = said.starts_with("HTTP/1.1 200 ") && said.ends_with("0\r\n\r\n");
            assert!(!complete && !said.contains("whole"), "{guest}: {said}");
            gateway.metric_becomes("mayfly_live_instances", 0.0).await;
        }
    }
}
