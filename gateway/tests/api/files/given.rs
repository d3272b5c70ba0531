//! What guests of each kind can do with the files that they are given.

use serde_json::json;

use super::{SITE, TestGateway};

/// The same program as a module of preview 1 and as a component.
const PROGRAMS: [&str; 2] = ["t-given-cgi", "t-given"];

async fn answer(gateway: &TestGateway, target: &str) -> String {
    let answer = gateway.get(&format!("/f/{target}")).await;
    assert_eq!(answer.status(), 200, "{target}: {answer:?}");
    answer.text().trim_end().to_owned()
}

/// Case Y15.
#[tokio::test]
async fn guests_of_each_kind_read_their_files() {
    let gateway = TestGateway::start().await;
    let tree = gateway.store_files(SITE).await;
    for name in PROGRAMS {
        for at in ["/", "/srv/site"] {
            let root = at.trim_end_matches('/');
            let deployed = gateway.deploy_files(name, name, &tree, at).await;
            assert!(matches!(deployed.status(), 200 | 201), "{deployed:?}");
            let read = |what: &'static str| answer_of(&gateway, name, what, root);
            assert_eq!(read("read?path=ROOT/index.html").await, "<h1>home</h1>", "{name} {at}");
            assert_eq!(read("read?path=ROOT/assets/%C3%A4%20b.txt").await, "umlaut");
            assert_eq!(read("read?path=ROOT/about/../index.html").await, "<h1>home</h1>");
            assert_eq!(read("list?path=ROOT/").await, "about/ assets/ index.html");
            assert_eq!(read("list?path=ROOT/assets").await, "site.css \u{e4} b.txt");
            // Of a file, nothing but its length is told. Its times are those of 1970.
            assert_eq!(read("stat?path=ROOT/assets/site.css").await, "file 17 0 0");
            assert_eq!(read("stat?path=ROOT/assets").await, "directory 0 0 0");
            // ENOENT and ENOTDIR. A directory is EBADF for a module, and EISDIR for a component.
            assert_eq!(read("read?path=ROOT/none").await, "failed: 44");
            assert_eq!(read("read?path=ROOT/index.html/x").await, "failed: 54");
            let directory = read("read?path=ROOT/assets").await;
            assert!(matches!(&*directory, "failed: 8" | "failed: 31"), "{name}: {directory}");
        }
        // What is not below the mount is not there.
        assert!(answer(&gateway, &format!("{name}/list?path=/")).await.starts_with("failed: "));
    }
    // Relative paths begin at `/`.
    gateway.deploy_files("t-given-cgi", "t-given-cgi", &tree, "/").await;
    assert_eq!(answer(&gateway, "t-given-cgi/read?path=index.html").await, "<h1>home</h1>");

    let deployed = gateway.deploy_files("http", "t-given-http-p3", &tree, "/").await;
    assert_eq!(deployed.status(), 201, "{deployed:?}");
    assert_eq!(answer(&gateway, "http/about/index.html").await, "<h1>about</h1>");
}

async fn answer_of(gateway: &TestGateway, name: &str, what: &str, root: &str) -> String {
    answer(gateway, &format!("{name}/{}", what.replace("ROOT", root))).await
}

/// Case Y15.
#[tokio::test]
async fn a_command_of_wasi_0_3_reads_its_files_by_streams() {
    let gateway = TestGateway::start().await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 3) as u8).collect();
    let sum: u64 = large.iter().map(|byte| u64::from(*byte)).sum();
    let many: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let mut files: Vec<(&str, &[u8])> = many.iter().map(|name| (&**name, &b"x"[..])).collect();
    files.push(("large", &large));
    let tree = gateway.store_files(&files).await;
    let deployed = gateway.deploy_files("p3", "t-given-p3", &tree, "/data").await;
    assert_eq!(deployed.status(), 201, "{deployed:?}");
    let read_only = "Some(ErrorCode::ReadOnly)";
    let refused = format!("{} Some(ErrorCode::NotPermitted)", [read_only; 7].join(" "));
    let names = many.join(",");
    for _ in 0..2 {
        let seen = answer(&gateway, "p3/large").await;
        let expected = format!("/data 1000000 {sum} 1000000 Some(0) {names},large {refused}");
        assert_eq!(seen, expected);
    }
}

/// Case Y16.
#[tokio::test]
async fn nothing_that_a_guest_tries_changes_its_files_or_leads_out_of_them() {
    let gateway = TestGateway::start().await;
    let tree = gateway.store_files(SITE).await;
    let before = gateway.files("artifacts");
    for name in PROGRAMS {
        gateway.deploy_files(name, name, &tree, "/").await;
        let tried = answer(&gateway, &format!("{name}/change?path=/index.html")).await;
        assert!(!tried.contains("DONE"), "{name}: {tried}");
        let tried: Vec<&str> = tried.split(' ').collect();
        // EROFS for what would change a file or a directory, EEXIST for one that must be new.
        let expected = ["69", "69", "69", "69", "20", "69"];
        assert_eq!(tried[..6], expected, "{name}: {tried:?}");
        assert_eq!(tried[9..12], ["69"; 3], "{name}: {tried:?}");
        assert_eq!(tried[13..15], ["refused"; 2], "{name}: {tried:?}");
        assert_eq!(
            answer(&gateway, &format!("{name}/read?path=/index.html")).await,
            "<h1>home</h1>"
        );
        assert_eq!(
            answer(&gateway, &format!("{name}/list?path=/")).await,
            "about/ assets/ index.html"
        );
    }
    let digests = |paths: Vec<std::path::PathBuf>| {
        paths.into_iter().filter(|path| path.extension().unwrap() == "file").collect::<Vec<_>>()
    };
    assert_eq!(digests(gateway.files("artifacts")).len(), digests(before).len());
}

/// Case Y17.
#[tokio::test]
async fn a_function_reads_no_files_of_another_one() {
    let gateway = TestGateway::start().await;
    let mine = gateway.store_files(&[("mine", b"mine"), ("shared", b"shared")]).await;
    let yours = gateway.store_files(&[("yours", b"yours"), ("shared", b"shared")]).await;
    for (name, tree) in [("one", &mine), ("two", &yours)] {
        gateway.deploy_files(name, "t-given", tree, "/").await;
    }
    gateway.put("none", crate::guests::guest("t-given")).send().await;
    assert_eq!(answer(&gateway, "one/read?path=/mine").await, "mine");
    assert_eq!(answer(&gateway, "two/read?path=/yours").await, "yours");
    assert_eq!(answer(&gateway, "two/read?path=/shared").await, "shared");
    for (name, other) in [("one", "yours"), ("two", "mine")] {
        let data = gateway.data_dir();
        for path in [
            format!("/{other}"),
            format!("/../{other}"),
            data.join("admin.token").display().to_string(),
            data.join("mayfly.db").display().to_string(),
        ] {
            let seen = answer(&gateway, &format!("{name}/read?path={path}")).await;
            assert!(seen.starts_with("failed: "), "{path}: {seen}");
        }
    }
    assert!(answer(&gateway, "none/list?path=/").await.starts_with("failed: "));
}

/// Case Y18.
#[tokio::test]
async fn files_and_the_scratch_directory_are_side_by_side() {
    let gateway = TestGateway::start().await;
    // The tree's own `tmp` is below the scratch directory, and hidden by it.
    let tree = gateway.store_files(&[("a.txt", b"content"), ("tmp/hidden", b"hidden")]).await;
    for name in PROGRAMS {
        let settings = json!({"files": {"tree": tree}, "scratch_bytes": 1 << 20});
        gateway.deploy_with(name, &settings).await;
        for _ in 0..2 {
            // EROFS for a file that would be moved is EXDEV here: the directories are two devices.
            let seen = answer(&gateway, &format!("{name}/both?path=/a.txt")).await;
            assert_eq!(seen, "7 75 75 copy", "{name}");
        }
        let hidden = answer(&gateway, &format!("{name}/read?path=/tmp/hidden")).await;
        assert_eq!(hidden, "failed: 44", "{name}");
        assert_eq!(answer(&gateway, &format!("{name}/list?path=/")).await, "a.txt tmp/", "{name}");
    }
}

#[tokio::test]
async fn many_open_files_are_one_functions_own_limit() {
    let gateway = TestGateway::with(&["guests.host_resources=64"]).await;
    let names: Vec<String> = (0..100).map(|n| format!("few/{n}")).collect();
    let mut files: Vec<(&str, &[u8])> =
        names[..30].iter().map(|name| (&**name, &b"xy"[..])).collect();
    let more: Vec<String> = (0..100).map(|n| format!("many/{n}")).collect();
    files.extend(more.iter().map(|name| (&**name, name.as_bytes())));
    let tree = gateway.store_files(&files).await;
    for name in PROGRAMS {
        gateway.deploy_files(name, name, &tree, "/").await;
        assert_eq!(answer(&gateway, &format!("{name}/open?path=/few")).await, "30 60", "{name}");
    }
    // EMFILE, in WASI's numbers. A component ends when it has too many resources.
    assert_eq!(answer(&gateway, "t-given-cgi/open?path=/many").await, "failed: 33");
    let ended = gateway.get("/f/t-given/open?path=/many").await;
    assert_eq!(ended.problem(), (502, "resource-limit"), "{ended:?}");
}

#[tokio::test]
async fn an_instance_that_serves_several_calls_keeps_its_files() {
    let gateway = TestGateway::start().await;
    let tree = gateway.store_files(SITE).await;
    let settings = json!({"files": {"tree": tree}, "isolation": {"mode": "reuse"}});
    gateway.deploy_with("site", &settings).await;
    for _ in 0..5 {
        assert_eq!(answer(&gateway, "site/about/").await, "<h1>about</h1>");
    }
}
