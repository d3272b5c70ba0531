use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    thread::{self, JoinHandle},
};

use super::*;
use crate::cli::{
    client::body::{Consent, FileBody},
    commands::progress::Progress,
};

/// Takes one connection per answer, and returns what was asked, head and body.
fn server(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        answers
            .iter()
            .map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    assert_ne!(reader.read_line(&mut request).unwrap(), 0);
                }
                let length = request
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                reader.take(length).read_to_string(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                request
            })
            .collect()
    });
    (url, serving)
}

fn client(url: &str) -> Client {
    let token = Token::new("secret").unwrap();
    let access = Access::Token { token, insecure: false };
    Client { server: url.parse().unwrap(), access, trust: Trust::System }
}

#[tokio::test]
async fn a_request_has_host_token_and_target_in_origin_form() {
    let (url, serving) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]);
    let answer = client(&url).get("/v1/functions?limit=1").await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{}"[..]));

    let request = &serving.join().unwrap()[0];
    assert!(request.starts_with("GET /v1/functions?limit=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: Bearer secret\r\n"));
    assert!(request.contains(&format!("\r\nhost: {}\r\n", url.trim_start_matches("http://"))));
}

#[tokio::test]
async fn a_base_path_stays_in_front() {
    let (url, serving) = server(&["HTTP/1.1 204 No Content\r\n\r\n"]);
    client(&format!("{url}/mayfly/")).delete("/v1/tokens/7").await.unwrap();
    assert!(serving.join().unwrap()[0].starts_with("DELETE /mayfly/v1/tokens/7 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_file_is_sent_with_its_length() {
    let (url, serving) = server(&["HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}"]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"wasm").unwrap();
    io::Seek::rewind(&mut file).unwrap();
    let body = FileBody::sized(file, 4, Progress::hidden()).boxed_unsync();
    let client = client(&url);
    let request = build(client.request(Method::PUT, "/v1/functions/f").unwrap(), body).unwrap();
    assert_eq!(client.send(request, QUICK).await.unwrap().status, StatusCode::CREATED);

    let request = &serving.join().unwrap()[0];
    assert!(request.contains("\r\ncontent-length: 4\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nwasm"));
}

/// Answers a head that ends in `expect: 100-continue` at once, and says what came after it.
fn expecting(answer: &'static str, body_bytes: usize) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0);
        }
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        stream.write_all(answer.as_bytes()).unwrap();
        let mut body = vec![0; body_bytes];
        reader.read_exact(&mut body).unwrap();
        if !body.is_empty() {
            stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        }
        body
    });
    (url, serving)
}

async fn upload(url: &str, bytes: &[u8]) -> Result<Answer, Failure> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    let consent = Consent::default();
    let body = FileBody::sized(file, bytes.len() as u64, Progress::hidden()).after(&consent);
    let client = client(url);
    let request = client.request(Method::PUT, "/v1/functions/f").unwrap();
    let mut request = build(request, body.boxed_unsync()).unwrap();
    consent.ask(&mut request);
    client.send(request, QUICK).await
}

#[tokio::test]
async fn a_file_is_sent_once_the_server_wants_it() {
    let (url, serving) = expecting("HTTP/1.1 100 Continue\r\n\r\n", 4);
    assert_eq!(upload(&url, b"wasm").await.unwrap().status, StatusCode::CREATED);
    assert_eq!(serving.join().unwrap(), b"wasm");
}

#[tokio::test]
async fn a_refusal_before_the_body_is_heard() {
    // More than the buffers of a connection hold: sent blindly, it would break on the way.
    let bytes = vec![0; 16 << 20];
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 19\r\nconnection: close\r\n\r\n\
                   {\"title\":\"too big\"}";
    let (url, serving) = expecting(refusal, 0);
    assert_eq!(upload(&url, &bytes).await.unwrap_err().text(), "error: too big\n");
    serving.join().unwrap();
}

#[tokio::test]
async fn a_problem_is_shown_with_hint_and_request_id() {
    let (url, serving) = server(&[
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
         {\"title\":\"Function not found\",\"detail\":\"there is no `f`\",\
         \"hint\":\"deploy it\",\"request_id\":\"r1\"}",
    ]);
    let failure = client(&url).get("/v1/functions/f").await.unwrap_err();
    assert_eq!(
        failure.text(),
        "error: Function not found: there is no `f`\n  hint: deploy it\n  request id: r1\n"
    );
    serving.join().unwrap();
}

#[test]
fn an_error_that_is_no_problem_document_shows_its_status() {
    let failure = problem(StatusCode::BAD_GATEWAY, b"<html>");
    assert_eq!(failure.text(), "error: 502 Bad Gateway\n");
}

#[test]
fn a_problem_about_a_document_has_a_line_for_each_mistake() {
    let problem = br#"{"title": "Invalid manifest", "detail": "routes.a.path: x", "hint": "Look.",
        "mistakes": [{"path": "routes.a.path", "detail": "x"}, {"path": "project", "detail": "y"}]}"#;
    let place = |path: &str, detail: &str| format!("file:{}: {path}: {detail}", path.len());
    let failure = problem_about(StatusCode::UNPROCESSABLE_ENTITY, problem, place);
    assert_eq!(
        failure.text(),
        "error: Invalid manifest\n  file:13: routes.a.path: x\n  file:7: project: y\n  hint: Look.\n"
    );
}

#[tokio::test]
async fn pages_are_followed_to_the_end_and_not_in_circles() {
    let (url, serving) = server(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n{\"next_cursor\": \"a/b\"}",
        "HTTP/1.1 200 OK\r\ncontent-length: 22\r\n\r\n{\"next_cursor\": \"a/b\"}",
    ]);
    let mut seen = 0;
    let each = |_: &Answer| {
        seen += 1;
        Ok(())
    };
    client(&url).pages("/v1/functions", "limit=2", each).await.unwrap();
    assert_eq!(seen, 2);
    assert!(serving.join().unwrap()[1].starts_with("GET /v1/functions?limit=2&cursor=a%2Fb HTTP"));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_told_with_how_to_start_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let text = client(&url).get("/v1/functions").await.unwrap_err().text();
    assert!(text.contains("cannot connect to the gateway's control plane"), "{text}");
    assert!(text.contains("mayfly serve"), "{text}");
}

#[test]
fn the_token_of_the_flag_wins_over_the_variable_and_that_over_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (flag, file) = (write("flag", "from-flag\n"), write("file", "from-file\n"));
    write("admin.token", "from-data\n");
    let data_dir = Some(dir.path().to_owned());
    let sources = |token: Option<&str>, token_file: Option<&PathBuf>| TokenSources {
        token: token.map(str::to_owned),
        token_file: token_file.cloned(),
        data_dir: data_dir.clone(),
    };
    let found = |sources: TokenSources, flag: Option<&PathBuf>| {
        sources.find(flag.cloned()).unwrap().0.to_str().unwrap().to_owned()
    };
    assert_eq!(found(sources(Some("from-variable"), Some(&file)), Some(&flag)), "Bearer from-flag");
    assert_eq!(found(sources(Some("from-variable"), Some(&file)), None), "Bearer from-variable");
    assert_eq!(found(sources(None, Some(&file)), None), "Bearer from-file");
    assert_eq!(found(sources(None, None), None), "Bearer from-data");
}

fn client_of(server: Option<&str>, sources: &TokenSources) -> Result<Client, Failure> {
    let remote = Remote {
        server: server.map(str::to_owned),
        token_file: None,
        insecure: false,
        ca_file: None,
        output: Output::Text,
    };
    Client::with(&remote, sources)
}

/// Case A11.
#[test]
fn the_socket_is_used_unless_a_server_or_a_token_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("admin.token"), "from-data\n").unwrap();
    let data_dir = Some(dir.path().to_owned());
    let nothing = TokenSources { data_dir: data_dir.clone(), ..TokenSources::default() };
    let token = TokenSources { token: Some("t".to_owned()), data_dir, ..TokenSources::default() };
    for server in [None, Some("")] {
        let client = client_of(server, &nothing).unwrap();
        let expected = dir.path().join("control.sock");
        assert!(matches!(&client.access, Access::Socket(path) if *path == expected), "{client:?}");
        let client = client_of(server, &token).unwrap();
        assert_eq!(client.server, "http://127.0.0.1:9090/");
        assert!(matches!(client.access, Access::Token { .. }), "{client:?}");
    }
    let client = client_of(Some("http://127.0.0.1:1"), &nothing).unwrap();
    assert!(matches!(client.access, Access::Token { .. }), "{client:?}");
}

/// Case A11.
#[tokio::test]
async fn a_gateway_without_its_socket_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = Some(dir.path().to_owned());
    let sources = TokenSources { data_dir, ..TokenSources::default() };
    let client = client_of(None, &sources).unwrap();
    let text = client.get("/v1/functions").await.unwrap_err().text();
    for part in ["control.sock", "mayfly serve", "MAYFLY_DATA_DIR", "--server"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Case A11.
#[tokio::test]
async fn a_token_leaves_this_machine_over_tls_alone() {
    // Nothing is sent to these addresses, which are reserved for documentation.
    for url in ["http://192.0.2.1:9090", "http://[2001:db8::1]:9090"] {
        let failure = client(url).get("/v1/functions").await.unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)), "{failure:?}");
        let text = failure.text();
        assert!(text.contains(url) && text.contains("--insecure"), "{text}");
    }
    let (url, serving) = server(&["HTTP/1.1 204 No Content\r\n\r\n"]);
    let url = url.replace("127.0.0.1", "localhost");
    client(&url).get("/v1/functions").await.unwrap();
    assert!(serving.join().unwrap()[0].contains("authorization: Bearer secret"));
}

#[test]
fn a_missing_token_names_what_was_tried() {
    let sources = TokenSources { data_dir: Some("/nowhere".into()), ..TokenSources::default() };
    let text = sources.find(None).unwrap_err().text();
    assert!(text.contains("MAYFLY_TOKEN is not set"), "{text}");
    assert!(text.contains("/nowhere/admin.token"), "{text}");
    assert!(text.contains("mayfly token create"), "{text}");
}

#[test]
fn a_token_is_never_shown() {
    let token = Token::new("secret").unwrap();
    assert_eq!(format!("{token:?}"), "Token(…)");
    assert!(Token::new(" \n").is_err());
    assert!(Token::new("a\nb").is_err());
}
