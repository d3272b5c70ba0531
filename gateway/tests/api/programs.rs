//! Programs that nobody wrote for this gateway: an interpreter, a database, libraries and a framework.
//! They are deployed with the default limits, and answer.

use http::Method;
use serde_json::json;

use crate::{
    guests::{build_large, guest},
    test_gateway::TestGateway,
};

#[tokio::test]
async fn sqlite_answers_a_query_inside_a_guest() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.deploy("t-sqlite").await["kind"], "wasi-preview1");
    let answer = gateway.get("/f/t-sqlite/").await;
    let lines: Vec<&str> = answer.text().lines().collect();
    assert_eq!(lines[0], "kind=kind2 items=1667 total=82469 ", "{lines:?}");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[3].starts_with("SQLite 3."), "{lines:?}");
}

#[tokio::test]
async fn sqlite_works_with_a_database_in_a_file() {
    let gateway = TestGateway::start().await;
    gateway.deploy_with("t-sqlite", &json!({"scratch_bytes": 4 << 20})).await;
    for _ in 0..2 {
        let answer = gateway.get("/f/t-sqlite/file").await;
        let lines: Vec<&str> = answer.text().lines().map(str::trim_end).collect();
        assert_eq!(lines.len(), 8, "{lines:?}");
        assert_eq!(lines[0], "journal_mode=delete");
        assert_eq!(lines[1], "kind=kind2 items=1667 total=82469");
        assert_eq!(lines[4..7], ["sorted=5000", "total=247500", "integrity_check=ok"]);
    }
    // With too little room, SQLite says so, and no file is left to the next call.
    gateway.patch("t-sqlite", &json!({"settings": {"scratch_bytes": 100_000}})).await;
    assert_eq!(gateway.get("/f/t-sqlite/file").await.problem(), (502, "no-response"));
    let lines = gateway.log_lines("t-sqlite", 3).await;
    let all: Vec<_> = lines.iter().filter_map(|line| line["line"].as_str()).collect();
    assert!(all.iter().any(|line| line.contains("database or disk is full")), "{all:?}");
    assert!(all.iter().any(|line| line.contains("scratch_bytes")), "{all:?}");
}

#[tokio::test]
async fn a_template_engine_renders_a_page() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-template").await;
    let page = gateway.get("/f/t-template/?2").await;
    let expected = "<table>\n<tr><td>1</td><td>ROW &lt;0&gt;</td></tr>\n\
                    <tr><td>2</td><td>ROW &lt;1&gt;</td></tr>\n</table>";
    assert_eq!(page.plain(), (200, expected));
    assert!(gateway.get("/f/t-template/?5000").await.text().ends_with("</table>"));
}

/// A PNG of one colour, without compression: the format's own words are few.
fn png(side: u32) -> Vec<u8> {
    let mut raw = Vec::new();
    for _ in 0..side {
        raw.push(0);
        raw.extend([10, 200, 30].repeat(side as usize));
    }
    let mut zlib = vec![0x78, 1];
    let mut blocks = raw.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap();
        zlib.push(u8::from(blocks.peek().is_none()));
        zlib.extend(length.to_le_bytes());
        zlib.extend((!length).to_le_bytes());
        zlib.extend(block);
    }
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in &raw {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    zlib.extend((high << 16 | low).to_be_bytes());
    let head = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", head), (b"IDAT", zlib), (b"IEND", Vec::new())] {
        let body = [&kind[..], &data].concat();
        png.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        png.extend(&body);
        let crc = body.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        });
        png.extend((!crc).to_be_bytes());
    }
    png
}

#[tokio::test]
async fn an_image_library_scales_a_picture() {
    let gateway = TestGateway::start().await;
    gateway.deploy("t-image").await;
    let picture = png(300);
    let small = gateway.call(Method::POST, "/f/t-image/").body(picture).send().await;
    assert_eq!(small.status(), 200, "{small:?}");
    assert_eq!(small.header("content-type"), Some("image/png"));
    // The width and the height in its head.
    assert_eq!(&small.bytes()[..24], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x20\0\0\0\x20");
}

#[tokio::test]
async fn an_application_of_axum_routes_and_speaks_json() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.deploy("t-axum").await["kind"], "wasi-http-0.2");
    assert_eq!(gateway.get("/f/t-axum/").await.plain(), (200, "hello from axum\n"));
    let twice = gateway.get("/f/t-axum/hello/A%20B?times=2").await;
    assert_eq!(twice.plain(), (200, "hello, A B\nhello, A B\n"));
    let sum = gateway.call(Method::POST, "/f/t-axum/sum").json(&json!({"numbers": [1, 2, 39]}));
    let sum = sum.send().await;
    assert_eq!(sum.status(), 201);
    assert_eq!(sum.json()["sum"], 42);
    assert_eq!(gateway.get("/f/t-axum/sum").await.status(), 405);
    assert_eq!(gateway.get("/f/t-axum/nowhere").await.status(), 404);
    assert_eq!(gateway.get("/f/t-axum/hello/a?times=x").await.status(), 400);
}

/// Go links 100,000 data segments into it, the most that its linker makes: other toolchains make fewer.
#[tokio::test]
async fn a_go_program_with_net_http_is_deployed_with_the_defaults_and_answers() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.deploy("t-net-http").await["kind"], "wasi-preview1");
    let hello = gateway.get("/f/t-net-http/hello/%3CAda%3E").await;
    assert_eq!(hello.plain(), (200, "<p>Hello, &lt;Ada&gt;!</p>\n"));
    let sum = gateway.call(Method::POST, "/f/t-net-http/sum").json(&json!({"numbers": [1, 2, 39]}));
    assert_eq!(sum.send().await.plain(), (200, "{\"sum\":42}\n"));
    // The program trusts CONTENT_LENGTH, so the body must be whole before it starts.
    let (pieces, length) = gateway.call(Method::POST, "/f/t-net-http/length").pieces();
    let length = tokio::spawn(length.send());
    for piece in ["chunked ", "body"] {
        pieces.send(piece.into()).await.unwrap();
    }
    drop(pieces);
    assert_eq!(length.await.unwrap().plain(), (200, "12 of 12\n"));
    let picture = gateway.get("/f/t-net-http/picture").await;
    assert!(picture.bytes().starts_with(b"\x89PNG"), "{picture:?}");
    assert_eq!(gateway.get("/f/t-net-http/nowhere").await.status(), 404);
}

/// CPython compiles for half a minute of CPU time.
#[tokio::test]
async fn cpython_runs_a_program_of_its_settings() {
    if std::env::var_os("MAYFLY_LONG").is_none() {
        return;
    }
    build_large("cpython");
    let gateway = TestGateway::with(&["compile.wall_s=1000", "compile.cpu_s=1000"]).await;
    let program = "import json, os, sys\n\
                   print('Content-Type: application/json\\n')\n\
                   print(json.dumps([os.environ['QUERY_STRING'], sys.stdin.read()[::-1]]))";
    let settings = json!({
        "arguments": ["python", "-c", program],
        "memory_bytes": 256 << 20,
        "cpu_ms": 30_000,
    });
    let deployed = gateway.put("cpython", guest("cpython"));
    let deployed = deployed.header("mayfly-settings", &settings.to_string()).send().await;
    assert_eq!(deployed.status(), 201, "{deployed:?}");
    // An option of the caller's would be read by the interpreter.
    let answer = gateway.call(Method::POST, "/f/cpython/?-h").body("body").send().await;
    assert_eq!(answer.plain(), (200, "[\"-h\", \"ydob\"]\n"));

    let program = "import os, sqlite3, tempfile\n\
                   print('Content-Type: text/plain\\n')\n\
                   with tempfile.TemporaryDirectory() as directory:\n\
                   \x20   database = sqlite3.connect(directory + '/x.db')\n\
                   \x20   database.execute('CREATE TABLE t(a)')\n\
                   \x20   database.executemany('INSERT INTO t VALUES (?)', [(n,) for n in range(1000)])\n\
                   \x20   database.commit()\n\
                   \x20   print(database.execute('SELECT sum(a) FROM t').fetchone(), os.listdir(directory))\n\
                   print(os.listdir('/tmp'))";
    let settings = json!({"arguments": ["python", "-c", program], "scratch_bytes": 4 << 20});
    gateway.patch("cpython", &json!({"settings": settings})).await;
    assert_eq!(gateway.get("/f/cpython/").await.plain(), (200, "(499500,) ['x.db']\n[]\n"));
}
