//! Files that functions are given: uploads, deploys, and what becomes of the disk.

mod crash;
mod given;

use std::{fs, io::Write as _, path::Path};

use http::Method;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::{
    client::FullResponse,
    guests::{distinct, guest, path},
    test_gateway::TestGateway,
};

/// The archive of files with their contents; a name that ends with a slash is a directory.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let kind = if path.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
        header.set_entry_type(kind);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl TestGateway {
    async fn post_files(&self, archive: Vec<u8>, coding: Option<&str>) -> FullResponse {
        let mut post = self
            .control(Method::POST, "/v1/files")
            .header("content-type", "application/x-tar")
            .body(archive);
        if let Some(coding) = coding {
            post = post.header("content-encoding", coding);
        }
        post.send().await
    }

    /// Stores files, and returns the digest of their tree.
    async fn store_files(&self, files: &[(&str, &[u8])]) -> String {
        let stored = self.post_files(archive(files), None).await;
        assert!(matches!(stored.status(), 200 | 201), "{stored:?}");
        stored.json()["digest"].as_str().unwrap().to_owned()
    }

    /// Deploys a guest under a name with files at a directory.
    async fn deploy_files(&self, name: &str, wasm: &str, tree: &str, at: &str) -> FullResponse {
        let settings = json!({"files": {"tree": tree, "at": at}});
        let put = self.put(name, guest(wasm)).header("mayfly-settings", &settings.to_string());
        put.send().await
    }
}

const SITE: &[(&str, &[u8])] = &[
    ("index.html", b"<h1>home</h1>"),
    ("about/index.html", b"<h1>about</h1>"),
    ("assets/site.css", b"h1 { color: red }"),
    ("assets/\u{e4} b.txt", b"umlaut"),
];

/// Case Y09.
#[tokio::test]
async fn a_static_site_is_served_and_changes_with_its_revision() {
    let gateway = TestGateway::start().await;
    let tree = gateway.store_files(SITE).await;
    let deployed = gateway.deploy_files("site", "site", &tree, "/").await;
    assert_eq!(deployed.status(), 201, "{deployed:?}");
    assert_eq!(deployed.json()["settings"]["files"], json!({"tree": tree, "at": "/"}));
    for (target, kind, body) in [
        ("/", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/about", "text/html; charset=utf-8", "<h1>about</h1>"),
        ("/about/", "text/html; charset=utf-8", "<h1>about</h1>"),
        ("/assets/site.css", "text/css; charset=utf-8", "h1 { color: red }"),
        ("/assets/%C3%A4%20b.txt", "text/plain; charset=utf-8", "umlaut"),
    ] {
        let answer = gateway.get(&format!("/f/site{target}")).await;
        assert_eq!(answer.plain(), (200, body), "{target}");
        assert_eq!(answer.header("content-type"), Some(kind), "{target}");
    }
    for target in
        ["/none", "/about/none", "/index.html/x", "/%2e%2e/etc/passwd", "/a%2f..%2f..%2fx"]
    {
        let answer = gateway.get(&format!("/f/site{target}")).await;
        assert!(matches!(answer.status(), 400 | 404), "{target}: {answer:?}");
    }

    // The same tree changes nothing. Another one is another revision.
    assert_eq!(gateway.deploy_files("site", "site", &tree, "/").await.status(), 200);
    let changed: &[(&str, &[u8])] = &[
        ("index.html", b"<h1>new</h1>"),
        ("assets/site.css", b"h1 { color: red }"),
        ("assets/more.css", b""),
    ];
    let changed = gateway.store_files(changed).await;
    let patch = json!({"settings": {"files": {"tree": changed}}});
    let patched = gateway.patch("site", &patch).await;
    assert_eq!(patched.status(), 200, "{patched:?}");
    assert_eq!(gateway.get("/f/site/").await.plain(), (200, "<h1>new</h1>"));
    assert_eq!(gateway.get("/f/site@1/").await.plain(), (200, "<h1>home</h1>"));
    let diff = gateway.api("/v1/functions/site/revisions/1/diff/2").await;
    assert_eq!(
        diff.json()["files"],
        json!({
            "added": ["assets/more.css"],
            "removed": ["about/index.html", "assets/\u{e4} b.txt"],
            "changed": ["index.html"],
            "more": false,
        })
    );
    assert_eq!(diff.json()["settings"][0]["setting"], "files.tree");
    let back = gateway.control(Method::POST, "/v1/functions/site/rollback").send().await;
    assert_eq!(back.status(), 200, "{back:?}");
    assert_eq!(gateway.get("/f/site/").await.plain(), (200, "<h1>home</h1>"));
    // Null takes the files away.
    gateway.patch("site", &json!({"settings": {"files": null}})).await;
    assert_eq!(gateway.get("/f/site/").await.status(), 404);
}

/// Case Y10.
#[tokio::test]
async fn the_same_files_are_the_same_tree_however_they_are_sent() {
    let gateway = TestGateway::start().await;
    let stored = gateway.post_files(archive(SITE), None).await;
    assert_eq!(stored.status(), 201, "{stored:?}");
    let (files, bytes) = (SITE.len(), SITE.iter().map(|(_, content)| content.len()).sum::<usize>());
    assert_eq!((&stored.json()["files"], &stored.json()["bytes"]), (&json!(files), &json!(bytes)));
    let digest = stored.json()["digest"].as_str().unwrap();
    let count = gateway.files("artifacts").len();
    assert_eq!(count, SITE.len() + 1, "each file, and the list");

    let reversed: Vec<_> = SITE.iter().rev().copied().collect();
    let zstd = zstd::encode_all(&*archive(SITE), 1).unwrap();
    for (archive, coding) in [
        (archive(&reversed), None),
        (gzip(&archive(SITE)), Some("gzip")),
        (gzip(&archive(&reversed)), Some("x-gzip")),
        (zstd, Some("zstd")),
    ] {
        let again = gateway.post_files(archive, coding).await;
        assert_eq!((again.status(), &again.json()["digest"]), (200, &json!(digest)), "{coding:?}");
    }
    assert_eq!(gateway.files("artifacts").len(), count);

    // A page at a time.
    let target = format!("/v1/files/{digest}?limit=3");
    let page = gateway.api(&target).await;
    assert_eq!((page.status(), &page.json()["digest"]), (200, &json!(digest)));
    let cursor = page.json()["next_cursor"].as_str().unwrap();
    assert_eq!(cursor, "assets/\u{e4} b.txt");
    let rest = gateway.api(&format!("{target}&cursor=assets/%C3%A4%20b.txt")).await;
    let entries = rest.json()["entries"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["path"]), (1, &json!("index.html")));
    assert_eq!(entries[0]["bytes"], 13);
    gateway.no_uploads_left().await;
}

/// Case Y11.
#[tokio::test]
async fn what_cannot_be_files_is_refused_and_leaves_nothing() {
    let gateway = TestGateway::with(&[
        "uploads.files=20",
        "uploads.files_bytes=200KiB",
        "uploads.file_bytes=100KiB",
    ])
    .await;
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    let mut linked = Builder::new(Vec::new());
    linked.append_link(&mut link, "passwd", "/etc/passwd").unwrap();
    let linked = linked.into_inner().unwrap();
    let bomb = gzip(&vec![0; 64 << 20]);
    let whole = archive(SITE);
    let large = vec![7; 101 << 10];
    let most = vec![7; 100 << 10];
    let many: Vec<String> = (0..21).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (&**name, &b""[..])).collect();
    for (archive, coding, expected, detail) in [
        (linked, None, (422, "bad-archive"), "member 1 is a symbolic link"),
        (b"PK\x03\x04 this is a zip".repeat(99), None, (422, "bad-archive"), "no valid header"),
        (whole[..600].to_vec(), None, (422, "bad-archive"), "cut off"),
        (whole.clone(), Some("gzip"), (422, "bad-archive"), "reading the archive"),
        (gzip(&whole)[..200].to_vec(), Some("gzip"), (422, "bad-archive"), "reading the archive"),
        (bomb, Some("gzip"), (413, "files-too-large"), "uploads.files_bytes"),
        (archive(&[("a", &large)]), None, (413, "files-too-large"), "uploads.file_bytes"),
        (
            archive(&[("a", &most), ("b", &most), ("c", b"x")]),
            None,
            (413, "files-too-large"),
            "uploads.files_bytes",
        ),
        (archive(&many), None, (422, "bad-archive"), "uploads.files)"),
        (whole.clone(), Some("br"), (415, "unsupported-content-encoding"), ""),
        (whole.clone(), Some("gzip, gzip"), (415, "unsupported-content-encoding"), ""),
    ] {
        let refused = gateway.post_files(archive, coding).await;
        assert_eq!(refused.problem(), expected, "{refused:?}");
        assert!(refused.text().contains(detail), "{detail}: {refused:?}");
    }
    let json = gateway.control(Method::POST, "/v1/files").json(&json!({})).send().await;
    assert_eq!(json.problem(), (415, "unsupported-media-type"));
    let counted = |problem: &'static str| {
        let gateway = &gateway;
        async move { gateway.metric_with("mayfly_uploads_refused_total", &[("problem", problem)]).await }
    };
    assert_eq!(counted("bad-archive").await, 6.0);
    assert_eq!(counted("files-too-large").await, 3.0);
    assert_eq!(gateway.files("artifacts"), [] as [std::path::PathBuf; 0]);
    gateway.no_uploads_left().await;
}

/// Case Y05.
#[tokio::test]
async fn a_deploy_names_a_tree_that_is_stored_and_a_directory_that_can_be() {
    let gateway = TestGateway::start().await;
    let tree = gateway.store_files(SITE).await;
    let unknown = format!("sha256:{}", "0".repeat(64));
    let refused = gateway.deploy_files("site", "site", &unknown, "/").await;
    assert_eq!(refused.problem(), (422, "files-not-found"), "{refused:?}");
    assert_eq!(
        gateway.api(&format!("/v1/files/{unknown}")).await.problem(),
        (404, "files-not-found")
    );
    assert_eq!(gateway.api("/v1/files/sha256:xyz").await.problem(), (400, "bad-query"));
    for at in ["", "srv", "/srv/", "/a/../b", "/tmp", "/tmp/x", "/a\nb"] {
        let refused = gateway.deploy_files("site", "site", &tree, at).await;
        assert_eq!(refused.problem(), (422, "bad-settings"), "{at}: {refused:?}");
        assert!(refused.text().contains("files: `at`"), "{refused:?}");
    }
    for wrong in [
        json!({"files": tree}),
        json!({"files": {"at": "/"}}),
        json!({"files": {"tree": "abc"}}),
        json!({"files": {"tree": tree, "mode": "rw"}}),
    ] {
        let put = gateway.put("site", guest("site")).header("mayfly-settings", &wrong.to_string());
        assert_eq!(put.send().await.problem(), (422, "bad-settings"), "{wrong}");
    }
    assert_eq!(gateway.show("site").await.status(), 404, "nothing was deployed");
    assert_eq!(gateway.deploy_files("site", "site", &tree, "/srv").await.status(), 201);
    let refused = gateway.patch("site", &json!({"settings": {"files": {"tree": unknown}}})).await;
    assert_eq!(refused.problem(), (422, "files-not-found"), "{refused:?}");
    // A channel has no files of its own.
    let channel = json!({"revision": 1, "settings": {"files": {"tree": tree}}});
    let put = gateway.control(Method::PUT, "/v1/functions/site/channels/beta").json(&channel);
    assert_eq!(put.send().await.problem(), (422, "bad-channel"));
}

#[tokio::test]
async fn the_number_of_files_has_a_quota_and_a_token_that_reads_stores_none() {
    let gateway = TestGateway::with(&["quotas.files=4"]).await;
    gateway.store_files(&[("a", b"1"), ("b", b"2"), ("c", b"1")]).await;
    let refused = gateway.post_files(archive(&[("a", b"3"), ("b", b"4")]), None).await;
    assert_eq!(refused.problem(), (409, "files-quota"), "{refused:?}");
    assert!(refused.text().contains("quotas.files"));
    let token = json!({"name": "reader", "scopes": ["read"]});
    let token = gateway.control(Method::POST, "/v1/tokens").json(&token).send().await;
    let bearer = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    let post = gateway.anonymous(Method::POST, "/v1/files").header("authorization", &bearer);
    assert_eq!(post.body(archive(SITE)).send().await.problem(), (403, "forbidden"));
}

/// Case Y13.
#[tokio::test]
async fn files_come_back_after_an_eviction_and_after_a_restart() {
    let mut gateway = TestGateway::with(&["limits.idle_ms=1000"]).await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    let sum: u64 = large.iter().map(|byte| u64::from(*byte)).sum();
    let tree = gateway.store_files(&[("large", &large), ("small", b"small")]).await;
    for name in ["t-given", "t-given-cgi"] {
        assert_eq!(gateway.deploy_files(name, name, &tree, "/").await.status(), 201);
    }
    let expected = format!("3000000 {sum}");
    for round in 0..2 {
        for name in ["t-given", "t-given-cgi"] {
            for piece in [100_000, 3_000_000, 4_095] {
                let target = format!("/f/{name}/sum?path=/large&piece={piece}");
                let answer = gateway.get(&target).await;
                assert_eq!(answer.plain(), (200, &*expected), "{target}, {round}");
            }
        }
        gateway.metric_becomes("mayfly_resident_functions", 0.0).await;
        assert_eq!(gateway.get("/f/t-given/read?path=/small").await.plain(), (200, "small"));
        gateway.restart().await;
    }
}

/// Case Y12.
#[tokio::test]
async fn a_damaged_file_fails_reads_and_the_same_upload_repairs_it() {
    let mut gateway = TestGateway::start().await;
    gateway.expect_errors();
    let files: &[(&str, &[u8])] = &[("whole", b"whole"), ("damaged", b"a file of some length")];
    let tree = gateway.store_files(files).await;
    for name in ["t-given", "t-given-cgi"] {
        gateway.deploy_files(name, name, &tree, "/").await;
    }
    let stored = |content: &[u8]| {
        let found = gateway.files("artifacts").into_iter();
        let mut found = found.filter(|path| fs::read(path).unwrap() == content);
        found.next().unwrap()
    };
    let file = stored(b"a file of some length");
    fs::write(&file, b"a file 0f some length").unwrap();
    // EIO, in WASI's numbers.
    for name in ["t-given", "t-given-cgi"] {
        let read = |path: &'static str| gateway.get_path(name, path);
        assert_eq!(read("/damaged").await.plain(), (200, "failed: 29"), "{name}");
        assert_eq!(read("/whole").await.plain(), (200, "whole"), "{name}");
    }
    assert_eq!(gateway.metric("mayfly_files_damaged_total").await, 1.0);
    assert_eq!(gateway.store_files(files).await, tree);
    for name in ["t-given", "t-given-cgi"] {
        let repaired = gateway.get_path(name, "/damaged").await;
        assert_eq!(repaired.plain(), (200, "a file of some length"), "{name}");
    }

    // The list is read when the function is loaded.
    let list = gateway.files("artifacts").into_iter();
    let mut list = list.filter(|path| fs::read(path).unwrap().starts_with(b"mayfly-files"));
    let list = list.next().unwrap();
    fs::write(&list, b"mayfly-files 1\n").unwrap();
    gateway.restart().await;
    for name in ["t-given", "t-given-cgi"] {
        let failed = gateway.get_path(name, "/whole").await;
        assert_eq!(failed.problem(), (500, "files-damaged"), "{failed:?}");
    }
    assert_eq!(gateway.api(&format!("/v1/files/{tree}")).await.problem(), (500, "files-damaged"));
    gateway.store_files(files).await;
    assert_eq!(gateway.get_path("t-given", "/whole").await.plain(), (200, "whole"));
}

impl TestGateway {
    /// What the guest `t-given` reads at a path.
    async fn get_path(&self, name: &str, path: &str) -> FullResponse {
        self.get(&format!("/f/{name}/read?path={path}")).await
    }
}

/// Case Y14.
#[tokio::test]
async fn the_command_line_sends_a_directory_once_and_lists_it() {
    let gateway = TestGateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let public = dir.path().join("public");
    for (path, content) in SITE {
        let path = public.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let wasm = path("site");
    let deploy = |name: &'static str, more: &'static [&'static str]| {
        let (gateway, wasm, public) = (&gateway, wasm.to_str().unwrap(), public.to_str().unwrap());
        async move {
            let line = ["deploy", wasm, "--name", name, "--files", public];
            let output = gateway.cli(&[&line[..], more].concat()).await;
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let posts = || {
        let gateway = &gateway;
        async move { gateway.files("artifacts").len() }
    };
    assert_eq!(deploy("site", &[]).await, (true, String::new()));
    assert_eq!(gateway.get("/f/site/about/").await.plain(), (200, "<h1>about</h1>"));
    let before = posts().await;
    assert!(deploy("other", &["--files-at", "/srv"]).await.0);
    assert_eq!(posts().await, before, "the gateway has these files");
    let shown = gateway.show("other").await;
    assert_eq!(shown.json()["settings"]["files"]["at"], "/srv");
    // A later deploy need not repeat where they are.
    fs::write(public.join("index.html"), "changed").unwrap();
    assert!(deploy("other", &[]).await.0);
    assert_eq!(gateway.show("other").await.json()["settings"]["files"]["at"], "/srv");

    let text = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    let listed = text(gateway.cli(&["files", "other"]).await);
    assert!(listed.starts_with("PATH"), "{listed}");
    assert!(listed.contains("assets/site.css") && listed.contains("sha256:"), "{listed}");
    let first = gateway.cli(&["files", "other", "--revision", "1", "--output", "json"]).await;
    let first: Value = serde_json::from_str(&text(first)).unwrap();
    assert_eq!(first["entries"].as_array().unwrap().len(), SITE.len());
    let diff = text(gateway.cli(&["revision", "diff", "other", "1", "2"]).await);
    assert!(diff.contains("index.html"), "{diff}");

    std::os::unix::fs::symlink("/etc/passwd", public.join("link")).unwrap();
    let (done, said) = deploy("site", &[]).await;
    assert!(!done && said.contains("neither a file nor a directory"), "{said}");
    fs::remove_file(public.join("link")).unwrap();
    let none = gateway.cli(&["files", "none"]).await;
    assert!(!none.status.success());
    let missing = Path::new("/does/not/exist").to_str().unwrap();
    let missing = ["deploy", wasm.to_str().unwrap(), "--name", "site", "--files", missing];
    assert!(!gateway.cli(&missing).await.status.success());
    let at = ["deploy", wasm.to_str().unwrap(), "--name", "site", "--files-at", "/srv"];
    assert_eq!(gateway.cli(&at).await.status.code(), Some(2), "it needs --files");
}

#[tokio::test]
async fn an_upload_of_other_bytes_keeps_the_files() {
    let gateway = TestGateway::start().await;
    let tree = gateway.store_files(SITE).await;
    gateway.deploy_files("site", "site", &tree, "/").await;
    let again = gateway.put("site", distinct(&guest("site"), 1)).send().await;
    assert_eq!((again.status(), &again.json()["revision"]), (201, &json!(2)));
    assert_eq!(gateway.get("/f/site/").await.plain(), (200, "<h1>home</h1>"));
}
